/* Intrusive, circular, doubly linked list. A list is a head node that points at itself when empty. */
#ifndef SYN_UTILS_LIST_H
#define SYN_UTILS_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void list_init(struct list *l) { l->prev = l->next = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }

static inline void list_push_back(struct list *l, struct list *n)
{
    n->prev = l->prev;
    n->next = l;
    l->prev->next = n;
    l->prev = n;
}

static inline void list_push_front(struct list *l, struct list *n) { list_push_back(l->next, n); }

/* Unlinks n and leaves it as an empty list, so that a second removal is harmless. */
static inline void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

#define list_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* The current node may be removed while walking. */
#define list_each_safe(it, head) \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

#endif
