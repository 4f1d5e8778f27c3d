/* synaxis session create, keepalive, end, list: a session holds locks together and ends with all of them. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/commands.h"

int cmd_session_create(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "SESSION.CREATE");
    words_add(&w, "TTL");
    words_number(&w, c->opt.ttl_ms);
    if (c->opt.name != NULL) {
        words_add(&w, "NAME");
        words_add(&w, c->opt.name);
    }
    words_idem(&w);
    return cli_ask_and_show(c, &w, 0);
}

static int of_session(struct cli *c, const char *command)
{
    struct words w = {.n = 0};
    words_add(&w, command);
    words_add(&w, c->argv[0]);
    return cli_ask_and_show(c, &w, 0);
}

int cmd_session_keepalive(struct cli *c)
{
    return of_session(c, "SESSION.KEEPALIVE");
}

int cmd_session_end(struct cli *c)
{
    return of_session(c, "SESSION.END");
}

int cmd_session_list(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "SESSION.LIST");
    return cli_ask_and_show(c, &w, 0);
}
