/* The command line tool's entry. `synaxis server` is not here: src/main.c dispatches it. */
#ifndef SYN_CLI_CLI_H
#define SYN_CLI_CLI_H

/* Exit codes, documented in docs/man/synaxis.1: scripts branch on them. `lock run` otherwise ends with the command's own code,
 * or 128 + n when signal n ended the command. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,        /* what was asked for did not happen; stderr says why */
    CLI_USAGE = 2,
    CLI_NO_QUORUM = 3,     /* no node reachable, no leader, or no majority: nothing was done */
    CLI_NOT_ACQUIRED = 4,  /* the lock is another's, the wait is over, or waiting would deadlock */
    CLI_LOCK_LOST = 5,     /* lock run: the lock was lost and the command ended for it */
    CLI_NO_KEY = 6,        /* cache get: there is no such key */
    CLI_TIMEOUT = 124,     /* no answer within --timeout */
    CLI_CANNOT_EXECUTE = 126,
    CLI_NOT_FOUND = 127,
};

/* Runs one command; argv[0] is the program's name. Returns its exit code; writes to stdout and stderr. */
int cli_main(int argc, char **argv);

#endif
