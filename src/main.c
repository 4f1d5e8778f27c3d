/* The `synaxis` program: the server, the simulator, or the command line tool. */
#include "cli/cli.h"
#include "io/server.h"
#include "sim.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "server") == 0) {
        return server_main(argc - 2, argv + 2);
    }
    if (argc > 1 && strcmp(argv[1], "sim") == 0) {
        return sim_main(argc - 1, argv + 1);
    }
    return cli_main(argc, argv);
}
