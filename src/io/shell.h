/* The real world's driver of a node: a libuv loop that turns sockets, clocks and disk completions into events, and carries
 * effects out in list order (nodes/node.h). One loop thread; the log and snapshot threads belong to io/log_thread.h.
 *
 * Rooms: shell.c (the loop's turns), shell_clients.c (client connections), shell_peers.c (links), shell_disk.c (log and
 * snapshots), server.c (start and stop). */
#ifndef SYN_IO_SHELL_H
#define SYN_IO_SHELL_H

#include "communication/peer_codec.h"
#include "io/log_thread.h"
#include "nodes/node.h"
#include "utils/list.h"
#include "utils/log.h"
#include "utils/map.h"

#include <uv.h>

enum { READ_BYTES = 64 * 1024 };

struct shell;

struct client {
    uv_tcp_t tcp;              /* data = this */
    struct map_node by_id;
    struct shell *shell;
    conn_id_t id;
    enum door_kind door;
    struct buf in;             /* bytes the node has not consumed */
    bool reading, closing;
    bool lingering;            /* our side has ended; what comes is thrown away */
    uv_shutdown_t shutdown;
    uint32_t writes;           /* uv_write requests on their way */
};

struct peer_link {
    uv_tcp_t tcp;
    struct map_node by_id;
    struct shell *shell;
    link_id_t id;
    node_id_t peer;            /* whom we dialled; 0: accepted */
    struct buf in;
    struct list dialling;      /* in the shell's, while dial is set */
    struct dial *dial;         /* what goes on until it is up; NULL: nothing */
    bool up, closing;
};

struct listener {
    uv_tcp_t tcp;
    struct shell *shell;
    int what;                  /* DOOR_RESP, DOOR_HTTP, or 0 for peers */
};

struct shell {
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t timer;
    uv_signal_t sigterm, sigint, sighup;
    struct listener listeners[4];
    uint32_t n_listeners;
    uint64_t timer_at_ms;      /* what the timer is armed for; UINT64_MAX: not */
    uint64_t clock_base_ns;
    struct node *node;
    struct effects fx;
    struct effects spare[2];
    uint32_t depth;
    bool turn_open;            /* something happened since the last EV_TURN_END */
    struct store *store;      /* the log thread's */
    uint64_t log_bytes, log_measured_ms; /* size of the log's segments, looked at now and then */
    uint64_t trimmed_ms;      /* when memory was last given back to the system */
    bool stopping;
    int exit_code;
    struct map clients, links; /* links: those that are up */
    struct list dials;         /* links that are being dialled */
    uint64_t n_clients, max_clients;
    uint64_t next_id;
    struct log_thread *log;
    struct logger *logger;
    uint32_t frame_bytes_max;
    uint64_t signals;
    uint8_t read_buf[READ_BYTES];
};

/* Opens nothing; the node is set by the caller before the first event. */
void shell_init(struct shell *s, struct logger *logger);
void shell_fini(struct shell *s);
/* Binds and listens. what: DOOR_RESP, DOOR_HTTP or 0 for peers. 0 or a negative libuv error. */
int shell_listen(struct shell *s, const char *host, uint16_t port, int what);
void shell_tune(uv_tcp_t *tcp);
/* Runs until the node asks to stop; returns the exit code. */
int shell_run(struct shell *s);
/* Hands one event to the node and carries out what it answers. Sets its times. */
void shell_event(struct shell *s, struct event *ev);
uint64_t shell_now_ms(const struct shell *s);
uint64_t shell_wall_ms(void);
void shell_log(const struct shell *s, enum log_level level, const char *text);

/* shell_clients.c */
void clients_accept(struct listener *l);
void clients_reply(struct shell *s, struct effect *e);
void clients_close(struct shell *s, conn_id_t id);
void clients_pause(struct shell *s, conn_id_t id);
void clients_resume(struct shell *s, conn_id_t id);
void clients_close_all(struct shell *s);

/* shell_peers.c */
void peers_accept(struct listener *l);
void peers_dial(struct shell *s, node_id_t peer, slice_t address);
void peers_send(struct shell *s, struct effect *e);
void peers_close(struct shell *s, link_id_t id);
void peers_close_all(struct shell *s);

/* shell_disk.c */
void disk_effect(struct shell *s, struct effect *e);
bool disk_start(struct shell *s, struct store *store);

#endif
