/* An independent C client (hiredis 0.14) against a live node: hiredis_client PORT. Prints one line and exits 0, or says what
 * differed. hiredis 0.14 speaks RESP2 only, so this also is the check that maps come flat there. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redisContext *c;

static redisReply *call(int argc, const char **argv)
{
    redisReply *r = redisCommandArgv(c, argc, argv, NULL);
    if (r == NULL) {
        fprintf(stderr, "%s: %s\n", argv[0], c->errstr);
        exit(1);
    }
    return r;
}

static void demand(int ok, const char *what, const redisReply *r)
{
    if (!ok) {
        fprintf(stderr, "%s: type %d, integer %lld, text %s\n", what, r->type, r->integer, r->str != NULL ? r->str : "-");
        exit(1);
    }
}

static const char *field(const redisReply *r, const char *name)
{
    static char number[32];
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        if (strcmp(r->element[i]->str, name) == 0) {
            const redisReply *v = r->element[i + 1];
            snprintf(number, sizeof number, "%lld", v->integer);
            return v->type == REDIS_REPLY_INTEGER ? strdup(number) : v->str;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    c = redisConnect("127.0.0.1", argc > 1 ? atoi(argv[1]) : 7379);
    if (c == NULL || c->err) {
        fprintf(stderr, "connect: %s\n", c != NULL ? c->errstr : "no memory");
        return 1;
    }
    redisReply *r = call(1, (const char *[]){"PING"});
    demand(r->type == REDIS_REPLY_STATUS && strcmp(r->str, "PONG") == 0, "PING", r);
    redisReply *held = call(7, (const char *[]){"LOCK.ACQUIRE", "hi", "EXCLUSIVE", "OWNER", "c", "TTL", "60000"});
    demand(held->type == REDIS_REPLY_ARRAY && field(held, "lock_id") != NULL && field(held, "token") != NULL, "LOCK.ACQUIRE", held);
    r = call(5, (const char *[]){"LOCK.ACQUIRE", "hi", "EXCLUSIVE", "OWNER", "d"});
    demand(r->type == REDIS_REPLY_ERROR && strncmp(r->str, "LOCKED", 6) == 0, "a second owner", r);
    for (int i = 0; i < 10000; i++) {
        redisAppendCommand(c, "LOCK.CHECK hi %s", field(held, "token"));
    }
    for (int i = 0; i < 10000; i++) {
        if (redisGetReply(c, (void **)&r) != REDIS_OK) {
            fprintf(stderr, "pipeline: %s\n", c->errstr);
            return 1;
        }
        demand(r->type == REDIS_REPLY_INTEGER && r->integer == 1, "a pipelined LOCK.CHECK", r);
        freeReplyObject(r);
    }
    r = call(3, (const char *[]){"LOCK.RELEASE", "hi", field(held, "lock_id")});
    demand(r->type == REDIS_REPLY_INTEGER && r->integer == 1, "LOCK.RELEASE", r);
    puts("hiredis: ok");
    return 0;
}
