/* synaxis lock run NAME -- command: holds a lock for exactly as long as the command runs.
 *
 * Steps: acquire (saying on stderr who holds it when that takes a wait); start the command with SYNAXIS_TOKEN, SYNAXIS_LOCK_ID and
 * SYNAXIS_RESOURCE; renew on a thread of its own (lock_keeper.c); forward signals; release; end with the command's exit code.
 * When the lock is lost: TERM, then KILL after --grace or at the instant somebody else may hold it, whichever is first, unless the
 * lock was already taken away. The command also gets TERM when this process dies without a word (PR_SET_PDEATHSIG). */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "cli/lock_keeper.h"
#include "communication/resp.h"
#include "utils/assert.h"
#include "utils/limits.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct run {
    struct cli *c;
    const char *resource, *mode;
    char owner[128], lock_id[32], token[32];
    uint64_t granted_ms;
    bool waited;
    pid_t child;
    bool own_group;      /* the command leads a process group of its own: signals go to all of it */
    uint64_t kill_at_ms; /* 0: no KILL is due */
    bool ended_it;       /* we sent TERM since the lock was lost */
    sigset_t before;
};

static void acquire_words(const struct run *r, struct words *w, uint64_t wait_ms)
{
    const struct cli_options *o = &r->c->opt;
    words_add(w, "LOCK.ACQUIRE");
    words_add(w, r->resource);
    words_add(w, r->mode);
    words_add(w, "OWNER");
    words_add(w, o->owner != NULL ? o->owner : r->owner);
    words_add(w, "TTL");
    words_number(w, o->ttl_ms);
    if (wait_ms > 0) {
        words_add(w, "WAIT");
        words_number(w, wait_ms);
    }
    if (o->meta != NULL) {
        words_add(w, "META");
        words_add(w, o->meta);
    }
    words_idem(w);
}

static bool copy_id(slice_t reply, const char *key, char *out, size_t size)
{
    struct resp_value v;
    if (!resp_map_get(reply, key, &v) || (v.type != RT_INT && v.type != RT_BULK) || v.str.len >= size) {
        return false;
    }
    if (v.type == RT_INT) {
        snprintf(out, size, "%" PRId64, v.num);
    } else {
        snprintf(out, size, "%.*s", (int)v.str.len, (const char *)v.str.ptr);
    }
    return true;
}

static int granted(struct run *r, slice_t reply, uint64_t asked_ms)
{
    r->granted_ms = asked_ms;
    if (copy_id(reply, "lock_id", r->lock_id, sizeof r->lock_id) && copy_id(reply, "token", r->token, sizeof r->token)) {
        return CLI_OK;
    }
    fprintf(r->c->err, "synaxis: lock run: the answer has no lock_id and token\n");
    return CLI_FAILED;
}

/* Tries first, so that a wait is announced; then waits its turn. */
static int take_lock(struct run *r, struct resp_client *client)
{
    struct cli *c = r->c;
    struct words try = {.n = 0}, wait = {.n = 0};
    uint64_t wait_ms = c->opt.wait_given ? c->opt.wait_ms : LIMIT_TTL_MS, asked_ms = now_ms();
    slice_t reply;
    acquire_words(r, &try, 0);
    if (resp_call(client, asked_ms + c->opt.timeout_ms, try.v, try.n, &reply) == CALL_OK) {
        slice_t word = resp_error_word(reply);
        if (word.len == 0) {
            return granted(r, reply, asked_ms);
        }
        if (!slice_eq(word, SLICE_LIT("LOCKED")) || wait_ms == 0) {
            return cli_refused(c, reply);
        }
        if (!c->opt.quiet) {
            fprintf(c->err, "synaxis: lock run: waiting: ");
            output_text(c->err, slice_of(reply.ptr + 1, reply.len - 3));
            fputc('\n', c->err);
        }
    }
    acquire_words(r, &wait, wait_ms);
    asked_ms = now_ms();
    int code = cli_ask(c, client, &wait, wait_ms, &reply);
    struct resp_value waited;
    r->waited = true; /* the TTL began when the wait ended, which was no earlier than this: */
    uint64_t waited_ms = code == CLI_OK && resp_map_get(reply, "waited_ms", &waited) && waited.num > 0 ? (uint64_t)waited.num : 0;
    return code == CLI_OK ? granted(r, reply, asked_ms + waited_ms) : code;
}

static _Noreturn void become_command(const struct run *r, char **argv, pid_t parent)
{
    setenv("SYNAXIS_TOKEN", r->token, 1);
    setenv("SYNAXIS_LOCK_ID", r->lock_id, 1);
    setenv("SYNAXIS_RESOURCE", r->resource, 1);
    if (r->own_group) {
        setpgid(0, 0);
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, &r->before, NULL);
    if (getppid() != parent) {
        _exit(CLI_FAILED);
    }
    execvp(argv[0], argv);
    int code = errno == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_EXECUTE;
    dprintf(STDERR_FILENO, "synaxis: lock run: %s: %s\n", argv[0], strerror(errno));
    _exit(code);
}

static void send_signal(const struct run *r, int number)
{
    kill(r->own_group ? -r->child : r->child, number);
}

/* The keeper says that the lock is gone. */
static void on_lost(struct run *r, const struct lock_keeper *keeper)
{
    struct cli *c = r->c;
    uint64_t now = now_ms(), safe = lock_keeper_safe_until_ms(keeper);
    fprintf(c->err, "synaxis: lock run: the lock %s is lost (", r->resource);
    output_text(c->err, slice_str(lock_keeper_why(keeper)));
    fprintf(c->err, "): %s\n", c->opt.warn ? "the command goes on, unprotected" : "ending the command");
    if (c->opt.warn) {
        return;
    }
    r->ended_it = true;
    r->kill_at_ms = now + c->opt.grace_ms;
    if (safe > now && safe < r->kill_at_ms) {
        r->kill_at_ms = safe;
    }
    send_signal(r, SIGTERM);
}

/* What came by signalfd. True when the command has ended. */
static bool on_signal(struct run *r, const struct signalfd_siginfo *s, int *status)
{
    if (s->ssi_signo == SIGCHLD) {
        return waitpid(r->child, status, WNOHANG) == r->child;
    }
    /* The terminal has sent its own signals to the whole foreground group already, the command included. */
    if (r->own_group || s->ssi_code != SI_KERNEL) {
        send_signal(r, (int)s->ssi_signo);
    }
    return false;
}

static int poll_ms(const struct run *r)
{
    uint64_t now = now_ms();
    return r->kill_at_ms == 0 ? -1 : r->kill_at_ms <= now ? 0 : (int)(r->kill_at_ms - now);
}

/* Until the command has ended; its wait status. */
static int watch_command(struct run *r, int signals, const struct lock_keeper *keeper)
{
    struct pollfd fds[2] = {{.fd = signals, .events = POLLIN}, {.fd = lock_keeper_fd(keeper), .events = POLLIN}};
    int status = 0;
    for (;;) {
        int n = poll(fds, 2, poll_ms(r));
        if (n == 0 && r->kill_at_ms != 0) {
            send_signal(r, SIGKILL);
            r->kill_at_ms = 0;
        }
        if (n > 0 && (fds[1].revents & POLLIN)) {
            on_lost(r, keeper);
            fds[1].fd = -1;
        }
        struct signalfd_siginfo s;
        if (n > 0 && (fds[0].revents & POLLIN) && read(signals, &s, sizeof s) == (ssize_t)sizeof s && on_signal(r, &s, &status)) {
            return status;
        }
    }
}

static int block_signals(struct run *r)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (uint32_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sigaddset(&set, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &r->before);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    syn_assert(fd >= 0);
    return fd;
}

static void release(struct run *r, struct resp_client *client)
{
    struct words w = {.n = 0};
    slice_t reply;
    words_add(&w, "LOCK.RELEASE");
    words_add(&w, r->resource);
    words_add(&w, r->lock_id);
    words_idem(&w);
    enum call_status s = resp_call(client, now_ms() + r->c->opt.timeout_ms, w.v, w.n, &reply);
    if (s != CALL_OK || resp_error_word(reply).len > 0) {
        fprintf(r->c->err, "synaxis: lock run: the lock %s could not be released and ends with its TTL: ", r->resource);
        output_text(r->c->err, s == CALL_OK ? slice_of(reply.ptr + 1, reply.len - 3) : slice_str(client->why));
        fputc('\n', r->c->err);
    }
}

static int exit_code(const struct run *r, int status)
{
    if (r->ended_it) {
        return CLI_LOCK_LOST;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Holds the lock, runs the command to its end, gives the lock back. */
static int run_command(struct run *r, struct resp_client *client)
{
    int signals = block_signals(r);
    pid_t parent = getpid();
    fflush(NULL);
    r->child = fork();
    if (r->child == 0) {
        become_command(r, r->c->argv + 1, parent);
    }
    if (r->child > 0 && r->own_group) {
        setpgid(r->child, r->child); /* both sides, so that neither can be too early */
    }
    struct lock_keeper *keeper = NULL;
    if (r->child > 0) {
        keeper = lock_keeper_start(client, r->resource, r->lock_id, r->c->opt.ttl_ms, r->granted_ms, r->waited);
    }
    if (keeper == NULL) {
        fprintf(r->c->err, "synaxis: lock run: cannot start the command: %s\n", strerror(errno));
        if (r->child > 0) {
            send_signal(r, SIGKILL);
        }
        release(r, client);
        close(signals);
        return CLI_FAILED;
    }
    int status = watch_command(r, signals, keeper);
    if (lock_keeper_stop(keeper, client)) {
        release(r, client);
    }
    close(signals);
    sigprocmask(SIG_SETMASK, &r->before, NULL);
    return exit_code(r, status);
}

int cmd_lock_run(struct cli *c)
{
    struct run r = {.c = c, .resource = c->argv[0], .mode = lock_mode_word(c), .own_group = !isatty(STDIN_FILENO)};
    struct resp_client client;
    char id[17], host[64] = "?";
    if (r.mode == NULL || (c->opt.kill && c->opt.warn)) {
        fputs(r.mode == NULL ? "" : "synaxis: lock run: --kill and --warn exclude each other\n", c->err);
        return CLI_USAGE;
    }
    gethostname(host, sizeof host - 1);
    cli_random_id(id);
    snprintf(r.owner, sizeof r.owner, "run:%s/%d/%s", host, (int)getpid(), id);
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    code = take_lock(&r, &client);
    if (code == CLI_OK) {
        code = run_command(&r, &client);
    }
    resp_client_fini(&client);
    return code;
}
