/* Runs every interleaving of the steps of named clients and compares all that was answered with the expected output, in the manner of
 * Postgres' isolation tests: test_lock_specs FOLDER [--rewrite].
 *
 * FOLDER/x.spec:  lines "setup: STEP" (once, in order), then "STEP" lines, one client per blank-separated block (see lock_world.h
 * for steps). FOLDER/x.out: per interleaving the steps, their results and the final state of the resources. An interleaving in which
 * a client that waits would speak is left out, except for cancel and retry. Every interleaving is run a second time through
 * a snapshot and restore after each step, which must change nothing. */
#include "lock_world.h"

#include "utils/assert.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS_MAX = 16, BLOCKS_MAX = 4, FILES_MAX = 64 };

struct spec {
    char text[8192];
    char *setup[STEPS_MAX];
    int n_setup;
    char *steps[BLOCKS_MAX][STEPS_MAX];
    int n_steps[BLOCKS_MAX];
    int n_blocks;
    int run, skipped;
    struct buf out;
};

static void spec_read(struct spec *s, const char *path)
{
    *s = (struct spec){0};
    FILE *f = fopen(path, "r");
    syn_assert(f != NULL);
    size_t n = fread(s->text, 1, sizeof s->text - 1, f);
    s->text[n] = '\0';
    fclose(f);
    bool open = false;
    for (char *line = s->text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        if (line[0] == '\0') {
            open = false;
        } else if (strncmp(line, "setup: ", 7) == 0) {
            s->setup[s->n_setup++] = line + 7;
        } else if (line[0] != '#') {
            s->n_blocks += !open;
            open = true;
            int b = s->n_blocks - 1;
            syn_assert(b < BLOCKS_MAX && s->n_steps[b] < STEPS_MAX);
            s->steps[b][s->n_steps[b]++] = line;
        }
        line = end;
    }
}

static bool may_speak(struct world *w, const char *step)
{
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        const struct world_client *c = &w->clients[i];
        size_t n = strlen(c->name);
        if (n > 0 && strncmp(step, c->name, n) == 0 && step[n] == ' ') {
            return !c->waiting || strcmp(step + n, " cancel") == 0 || strcmp(step + n, " retry") == 0;
        }
    }
    return true;
}

/* False: the interleaving is not possible. */
static bool run_order(struct spec *s, const int *order, int n, bool reborn, struct buf *out)
{
    struct world w;
    world_init(&w, 0);
    bool possible = true;
    for (int i = 0; i < s->n_setup; i++) {
        world_do(&w, s->setup[i]);
    }
    int at[BLOCKS_MAX] = {0};
    for (int i = 0; i < n && possible; i++) {
        const char *step = s->steps[order[i]][at[order[i]]++];
        possible = may_speak(&w, step);
        if (possible) {
            buf_printf(out, "  %s\n", step);
            const char *text = world_do(&w, step);
            for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
                buf_printf(out, "    %.*s\n", (int)(strchr(line, '\n') - line), line);
            }
            if (reborn) {
                world_reincarnate(&w, 7 + (size_t)i, (uint64_t)i);
            }
        }
    }
    buf_append_str(out, "  ");
    world_show(&w, "r1", out);
    buf_append_str(out, "; ");
    world_show(&w, "r2", out);
    buf_append_str(out, "\n");
    world_fini(&w);
    return possible;
}

static void run_one(struct spec *s, const int *order, int n)
{
    struct buf a = {0}, b = {0};
    bool possible = run_order(s, order, n, false, &a);
    s->run += possible;
    s->skipped += !possible;
    if (possible) {
        run_order(s, order, n, true, &b);
        if (!slice_eq(buf_slice(&a), buf_slice(&b))) {
            fprintf(stderr, "a snapshot changed what happens:\n%.*s--- became\n%.*s", (int)a.len, (char *)a.ptr, (int)b.len, (char *)b.ptr);
            exit(1);
        }
        buf_printf(&s->out, "%d:\n", s->run);
        buf_append_slice(&s->out, buf_slice(&a));
    }
    buf_fini(&a);
    buf_fini(&b);
}

/* All orders, by counting: order[i] is the block whose next step comes i-th. */
static void run_all(struct spec *s)
{
    int order[STEPS_MAX * BLOCKS_MAX] = {0}, left[BLOCKS_MAX], n = 0, depth = 0;
    for (int b = 0; b < s->n_blocks; b++) {
        left[b] = s->n_steps[b];
        n += left[b];
    }
    order[0] = -1;
    while (depth >= 0) {
        if (order[depth] >= 0) {
            left[order[depth]]++;
        }
        int b = order[depth] + 1;
        while (b < s->n_blocks && left[b] == 0) {
            b++;
        }
        if (b == s->n_blocks) {
            depth--;
            continue;
        }
        order[depth] = b;
        left[b]--;
        if (depth + 1 == n) {
            run_one(s, order, n);
        } else {
            order[++depth] = -1;
        }
    }
}

static bool same_as_file(const char *path, slice_t want)
{
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return false;
    }
    char *text = malloc(want.len + 2);
    syn_assert(text != NULL);
    size_t n = fread(text, 1, want.len + 2, f);
    fclose(f);
    bool same = slice_eq(slice_of(text, n), want);
    free(text);
    return same;
}

static bool run_file(const char *folder, const char *name, bool rewrite)
{
    static struct spec s;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    spec_read(&s, path);
    run_all(&s);
    buf_printf(&s.out, "%d interleavings, %d impossible\n", s.run, s.skipped);
    snprintf(path, sizeof path, "%s/%.*s.out", folder, (int)(strlen(name) - 5), name);
    bool ok = true;
    if (rewrite) {
        FILE *f = fopen(path, "w");
        syn_assert(f != NULL);
        fwrite(s.out.ptr, 1, s.out.len, f);
        fclose(f);
    } else if (!same_as_file(path, buf_slice(&s.out))) {
        fprintf(stderr, "%s: answers differ from %s; run with --rewrite and read the difference\n", name, path);
        ok = false;
    }
    printf("%-24s %d interleavings\n", name, s.run);
    buf_fini(&s.out);
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: test_lock_specs FOLDER [--rewrite]\n");
        return 2;
    }
    DIR *d = opendir(argv[1]);
    syn_assert(d != NULL);
    char *names[FILES_MAX];
    int n = 0, bad = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t len = strlen(e->d_name);
        if (len > 5 && strcmp(e->d_name + len - 5, ".spec") == 0 && n < FILES_MAX) {
            names[n++] = strdup(e->d_name);
        }
    }
    closedir(d);
    qsort(names, (size_t)n, sizeof names[0], by_name);
    for (int i = 0; i < n; i++) {
        bad += !run_file(argv[1], names[i], argc > 2 && strcmp(argv[2], "--rewrite") == 0);
        free(names[i]);
    }
    return n > 0 && bad == 0 ? 0 : 1;
}
