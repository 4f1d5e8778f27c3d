/* The identity file (docs/disk.md, "Identity"; W6).
 *
 * Responsible for the bytes of IDENTITY and for replacing it atomically. Whether a missing one is a new directory or a
 * damaged one is decided by store_open.c. */
#include "storage/identity.h"

#include "utils/crc32c.h"
#include "utils/mutant.h"

#include <errno.h>

enum { IDENTITY_MAGIC = 0x494e5953 /* "SYNI" */, IDENTITY_BYTES_MAX = 4096 };

#define IDENTITY_NAME "IDENTITY"
#define IDENTITY_TMP "IDENTITY.tmp"

void identity_fini(struct identity *id)
{
    buf_fini(&id->node_name);
}

static bool decode(slice_t s, struct identity *out, int *format)
{
    if (s.len < 10 || le32_get(s.ptr) != IDENTITY_MAGIC || crc32c(0, s.ptr, s.len - 4) != le32_get(s.ptr + s.len - 4)) {
        return false;
    }
    struct reader r = reader_of(slice_of(s.ptr + 4, s.len - 8));
    *format = reader_u16(&r);
    if (*format != IDENTITY_FORMAT) {
        return true;
    }
    out->node_uuid = reader_u64(&r);
    out->self = reader_u32(&r);
    out->cluster_key = reader_u64(&r);
    out->groups = reader_u32(&r);
    out->incarnation = reader_u64(&r);
    out->floor = reader_u64(&r);
    buf_append_slice(&out->node_name, reader_bytes(&r));
    return reader_done(&r);
}

enum identity_result identity_read(const struct files *f, struct identity *out, int *err)
{
    *out = (struct identity){0};
    int fd = f->open(f->ctx, IDENTITY_NAME, false);
    if (fd < 0) {
        *err = fd;
        return fd == -ENOENT ? IDENTITY_NONE : IDENTITY_IO;
    }
    uint8_t bytes[IDENTITY_BYTES_MAX];
    ssize_t n = f->pread(f->ctx, fd, bytes, sizeof bytes, 0);
    f->close(f->ctx, fd);
    if (n < 0) {
        *err = (int)n;
        return IDENTITY_IO;
    }
    int format = 0;
    if (!decode(slice_of(bytes, (size_t)n), out, &format)) {
        return IDENTITY_BAD;
    }
    *err = format;
    return format == IDENTITY_FORMAT ? IDENTITY_OK : IDENTITY_NEWER;
}

int identity_write(const struct files *f, const struct identity *id)
{
    struct buf b = {0};
    buf_put_u32(&b, IDENTITY_MAGIC);
    buf_put_u16(&b, IDENTITY_FORMAT);
    buf_put_u64(&b, id->node_uuid);
    buf_put_u32(&b, id->self);
    buf_put_u64(&b, id->cluster_key);
    buf_put_u32(&b, id->groups);
    buf_put_u64(&b, id->incarnation);
    buf_put_u64(&b, id->floor);
    buf_put_bytes(&b, buf_slice(&id->node_name));
    buf_put_u32(&b, crc32c(0, b.ptr, b.len));

    int fd = f->open(f->ctx, IDENTITY_TMP, true);
    int err = fd < 0 ? fd : f->truncate(f->ctx, fd, 0);
    if (err == 0) {
        ssize_t n = f->pwrite(f->ctx, fd, b.ptr, b.len, 0);
        err = n < 0 ? (int)n : f->sync(f->ctx, fd);
    }
    if (fd >= 0) {
        f->close(f->ctx, fd);
    }
    buf_fini(&b);
    if (err == 0) {
        err = f->rename(f->ctx, IDENTITY_TMP, IDENTITY_NAME);
    }
    return err == 0 && !MUTANT("S26") ? f->sync_dir(f->ctx) : err;
}

const char *identity_mismatch(const struct identity *id, const struct store_options *o)
{
    if (id->self != o->self || !slice_eq(buf_slice(&id->node_name), o->node_name)) {
        return "it belongs to another node; give this node the directory it had, or an empty one";
    }
    if (id->groups != o->groups) {
        return "it was made with another GROUPS, which is fixed for the life of a cluster; set GROUPS back";
    }
    if (id->cluster_key != o->cluster_key) {
        return "it belongs to another cluster, or one of CONSENSUS_TYPE, VIRTUAL_NODES, CACHE_LEASE and CACHE_WRITE_POLICY is not what it was made with; "
               "restore those settings, or start with an empty directory";
    }
    return NULL;
}
