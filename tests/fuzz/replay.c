/* Runs a fuzz target over files, without libFuzzer: what was once found, and the seeds, stay tested in every build.
 * Usage: replay_<target> DIRECTORY */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *dir, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(size + 1);
    size_t got = data != NULL ? fread(data, 1, size, f) : 0;
    fclose(f);
    if (data != NULL) {
        LLVMFuzzerTestOneInput(data, got);
    }
    free(data);
    return got != size;
}

int main(int argc, char **argv)
{
    DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    if (d == NULL) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    int files = 0, failed = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.') {
            failed += replay(argv[1], e->d_name);
            files++;
        }
    }
    closedir(d);
    printf("%d inputs\n", files);
    return failed > 0 || files == 0;
}
