/* The `synaxis` program: the server, or the command line tool. */
#include "io/server.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "server") == 0) {
        return server_main(argc - 2, argv + 2);
    }
    fprintf(stderr, "usage: synaxis server [options]\n");
    return 2;
}
