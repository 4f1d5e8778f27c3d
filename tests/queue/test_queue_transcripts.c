/* Runs every transcript of a folder and compares: test_queue_transcripts FOLDER [--rewrite]. With --rewrite, or REWRITE=1
 * in the environment, the files are written anew; the diff is then what a reviewer reads. The script language: queue_transcript.c. */
#include "../consensus/transcript.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: test_queue_transcripts FOLDER [--rewrite]\n");
        return 2;
    }
    const char *env = getenv("REWRITE");
    bool rewrite = (argc > 2 && strcmp(argv[2], "--rewrite") == 0) || (env != NULL && strcmp(env, "1") == 0);
    return transcript_folder(argv[1], rewrite) == 0 ? 0 : 1;
}
