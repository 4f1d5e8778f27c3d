/* The identity file of a data directory: whose it is, and how far its log certainly reaches. */
#ifndef SYN_STORAGE_IDENTITY_H
#define SYN_STORAGE_IDENTITY_H

#include "storage/store.h"

enum { IDENTITY_FORMAT = 1 };

struct identity {
    uint64_t node_uuid;
    node_id_t self;
    uint64_t cluster_key;
    uint32_t groups;
    uint64_t incarnation;
    uint64_t floor;         /* every block up to this one is durable; 0: the directory was never finished */
    struct buf node_name;   /* owned */
};

void identity_fini(struct identity *id);

enum identity_result { IDENTITY_OK, IDENTITY_NONE, IDENTITY_NEWER, IDENTITY_BAD, IDENTITY_IO };

/* *err: negative errno when the result is IDENTITY_IO; the format found when it is IDENTITY_NEWER. */
enum identity_result identity_read(const struct files *f, struct identity *out, int *err);
/* tmp, fsync, rename, fsync of the directory (W6). 0 or a negative errno. */
int identity_write(const struct files *f, const struct identity *id);
/* NULL, or why this directory is not the one that the options mean, and what to do, in one line. */
const char *identity_mismatch(const struct identity *id, const struct store_options *o);

#endif
