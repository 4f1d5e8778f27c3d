/* A RESP server in a thread of the test: each command is answered by the test's function. */
#ifndef SYN_TESTS_FAKE_SERVER_H
#define SYN_TESTS_FAKE_SERVER_H

#include "cli/cli_args.h"
#include "communication/resp.h"

struct fake_server;

enum fake_verdict { FAKE_REPLY, FAKE_CLOSE, FAKE_SILENT };

/* Writes the reply to a command into out. Runs on the server's thread, one command at a time. HELLO and CLIENT are answered by the
 * server itself and not seen. */
typedef enum fake_verdict (*fake_handler)(void *arg, uint32_t argc, const slice_t *argv, struct buf *out);

struct fake_server *fake_server_start(fake_handler handler, void *arg);
uint16_t fake_server_port(const struct fake_server *s);
uint32_t fake_server_commands(struct fake_server *s); /* seen by the handler so far */
void fake_server_stop(struct fake_server *s);

/* Answers LOCK.ACQUIRE, LOCK.RENEW and LOCK.RELEASE as a server would for locks that nobody else wants. */
enum fake_verdict fake_locks(void *arg, uint32_t argc, const slice_t *argv, struct buf *out);

/* Runs a command line against ports (0 ends the list), capturing what it prints (freed by fake_output_free). */
struct fake_output {
    int code;
    char *out, *err;
};
struct fake_output fake_run(const uint16_t *ports, const char *words);
void fake_output_free(struct fake_output *o);

#endif
