/* Transcripts as files: running a folder of them, comparing, rewriting (transcript.h). */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "transcript.h"

static void read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    size_t n;
    do {
        n = fread(buf_reserve(out, 4096), 1, 4096, f);
        out->len += n;
    } while (n > 0);
    fclose(f);
}

static void write_file(const char *path, slice_t s)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(s.ptr, 1, s.len, f) != s.len || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
}

static void show_difference(const char *path, slice_t want, slice_t got)
{
    size_t i = 0, line = 1, start = 0;
    for (; i < want.len && i < got.len && want.ptr[i] == got.ptr[i]; i++) {
        if (want.ptr[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    const uint8_t *w = memchr(want.ptr + i, '\n', want.len - i), *g = memchr(got.ptr + i, '\n', got.len - i);
    fprintf(stderr, "%s:%zu differs\n  expected: %.*s\n  happened: %.*s\n", path, line,
            (int)((w != NULL ? (size_t)(w - want.ptr) : want.len) - start), (const char *)want.ptr + start,
            (int)((g != NULL ? (size_t)(g - got.ptr) : got.len) - start), (const char *)got.ptr + start);
}

static bool run_one(const char *path, bool rewrite)
{
    struct buf want, got;
    buf_init(&want);
    buf_init(&got);
    read_file(path, &want);
    transcript_run(buf_slice(&want), &got);
    bool same = slice_eq(buf_slice(&want), buf_slice(&got));
    if (!same && rewrite) {
        write_file(path, buf_slice(&got));
        printf("rewrote %s\n", path);
    } else if (!same) {
        show_difference(path, buf_slice(&want), buf_slice(&got));
    }
    buf_fini(&want);
    buf_fini(&got);
    return same || rewrite;
}

static int is_transcript(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 4 && strcmp(d->d_name + n - 4, ".txt") == 0;
}

int transcript_folder(const char *folder, bool rewrite)
{
    struct dirent **names;
    int n = scandir(folder, &names, is_transcript, alphasort), failed = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        failed += !run_one(path, rewrite);
        free(names[i]);
    }
    if (n >= 0) {
        free(names);
    }
    printf("%d transcripts, %d differ\n", n > 0 ? n : 0, failed);
    return n > 0 ? failed : -1;
}
