/* Ordered sets of pends by offset: what is available again, and what is dead.
 *
 * A treap (Seidel and Aragon 1996) whose priorities are a hash of the offset: its shape depends on what is in it only, and every path is O(log n)
 * long on average. Nothing here recurses, nothing is allocated. */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

static bool above(const struct pend *a, const struct pend *b)
{
    uint64_t x = hash_u64(a->offset), y = hash_u64(b->offset);
    return x != y ? x > y : a->offset < b->offset;
}

void tree_add(struct pend **root, struct pend *r)
{
    struct pend **link = root;
    while (*link != NULL && above(*link, r)) {
        syn_assert((*link)->offset != r->offset);
        link = r->offset < (*link)->offset ? &(*link)->left : &(*link)->right;
    }
    struct pend *rest = *link, **lower = &r->left, **higher = &r->right;
    *link = r;
    while (rest != NULL) { /* what was there is split into what is below and what is above r */
        if (rest->offset < r->offset) {
            *lower = rest;
            lower = &rest->right;
            rest = rest->right;
        } else {
            *higher = rest;
            higher = &rest->left;
            rest = rest->left;
        }
    }
    *lower = *higher = NULL;
}

void tree_remove(struct pend **root, struct pend *r)
{
    struct pend **link = root;
    while (*link != r) {
        syn_assert(*link != NULL);
        link = r->offset < (*link)->offset ? &(*link)->left : &(*link)->right;
    }
    struct pend *a = r->left, *b = r->right;
    while (a != NULL && b != NULL) {
        if (above(a, b)) {
            *link = a;
            link = &a->right;
            a = a->right;
        } else {
            *link = b;
            link = &b->left;
            b = b->left;
        }
    }
    *link = a != NULL ? a : b;
    r->left = r->right = NULL;
}

struct pend *tree_from(struct pend *root, uint64_t offset)
{
    struct pend *found = NULL;
    while (root != NULL) {
        if (root->offset >= offset) {
            found = root;
            root = root->left;
        } else {
            root = root->right;
        }
    }
    return found;
}
