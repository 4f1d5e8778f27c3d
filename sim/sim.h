/* The simulator: a whole cluster and its clients in one process and virtual time; one seed decides everything (docs/simulator.md).
 *
 * sim_run runs one seed: phase one injects faults while clients work and every checker watches; phase two heals a quorum and
 * demands that every pending request ends and all replicas agree. */
#ifndef SYN_SIM_SIM_H
#define SYN_SIM_SIM_H

#include "utils/buf.h"

/* X(NAME, "name", what it does). Each kind is on in about half of the seeds; its intensity is drawn per seed. */
#define SIM_FAULTS(X)                                                                                      \
    X(NET_LOSS, "net_loss", "a frame is lost though its link stays up")                                    \
    X(NET_DUP, "net_dup", "a frame arrives twice")                                                         \
    X(NET_REORDER, "net_reorder", "a frame is overtaken by later ones")                                    \
    X(NET_TAIL, "net_tail", "a frame takes up to seconds")                                                 \
    X(NET_CORRUPT, "net_corrupt", "bits of a frame flip on the way")                                       \
    X(NET_TRUNCATE, "net_truncate", "a link breaks in the middle of a frame")                              \
    X(NET_CUT, "net_cut", "a link is cut: what is in flight is lost, the ends learn at different times")   \
    X(NET_HALF_OPEN, "net_half_open", "a link dies and one end never learns")                              \
    X(NET_PARTITION, "net_partition", "the nodes fall into two halves")                                    \
    X(NET_ISOLATE, "net_isolate", "one node is cut off")                                                   \
    X(NET_ONE_WAY, "net_one_way", "one direction between two nodes is cut")                                \
    X(NET_BRIDGE, "net_bridge", "two halves see each other through one node only")                         \
    X(NET_CLOG, "net_clog", "a direction holds all frames, then delivers them at once")                    \
    X(NET_FLAP, "net_flap", "a node's links go down and up with the period of an election")                \
    X(NET_SLOW, "net_slow", "a link passes a few kilobytes a second")                                      \
    X(NET_LATE, "net_late", "frames arrive long after their sender was restarted")                         \
    X(CRASH, "crash", "a process dies")                                                                    \
    X(CRASH_EFFECT, "crash_effect", "a process dies between two effects of one step")                      \
    X(CRASH_LOOP, "crash_loop", "a process dies again soon after each start")                              \
    X(POWER_NODE, "power_node", "a machine loses power: unsynced writes are lost, torn or garbled")        \
    X(POWER_ALL, "power_all", "all machines lose power at once")                                           \
    X(WIPE, "wipe", "a node comes back with an empty disk")                                                \
    X(PAUSE, "pause", "a process stands still while its clock runs on")                                    \
    X(SHUTDOWN, "shutdown", "a process is asked to stop (rolling restart)")                                \
    X(SLOW_CPU, "slow_cpu", "each turn of a process takes milliseconds")                                   \
    X(LATE_TIMER, "late_timer", "timers fire late")                                                        \
    X(DISK_SLOW, "disk_slow", "a flush takes up to seconds")                                               \
    X(DISK_SYNC_FAIL, "disk_sync_fail", "a flush fails and drops what it should have written")             \
    X(DISK_WRITE_FAIL, "disk_write_fail", "a write fails, perhaps after its first half")                   \
    X(DISK_READ_FAIL, "disk_read_fail", "a read fails")                                                    \
    X(DISK_FULL, "disk_full", "the disk is full for a while")                                              \
    X(DISK_FLIP, "disk_flip", "a bit in the middle of a synced file flips")                                \
    X(CLOCK_DRIFT, "clock_drift", "a node's monotonic clock runs up to one per cent off")                  \
    X(CLOCK_WALL, "clock_wall", "a node's wall clock steps")                                               \
    X(CLIENT_DIES, "client_dies", "a client closes its connection between request and reply")              \
    X(CLIENT_RETRY, "client_retry", "a client asks again at another node, with the same owner and IDEM id") \
    X(CLIENT_PAUSE, "client_pause", "a client sleeps past its TTL, then uses its token")                   \
    X(CLIENT_FLOOD, "client_flood", "a client sends a long pipeline at once")                              \
    X(CLIENT_SPLIT, "client_split", "a request arrives in pieces")                                         \
    X(OP_TRANSFER, "op_transfer", "leaderships are moved by command")                                      \
    X(OP_REMOVE, "op_remove", "a member is removed and added again")                                       \
    X(OP_SNAPSHOT, "op_snapshot", "snapshots after very few entries")

enum sim_fault {
#define X(name, text, what) FAULT_##name,
    SIM_FAULTS(X)
#undef X
    FAULT_COUNT
};
const char *fault_name(enum sim_fault f);
const char *fault_what(enum sim_fault f);

/* Planted mistakes of the simulator's own, to see that the checkers see. 0: none. */
enum sim_canary {
    CANARY_NONE,
    CANARY_SYNC_LIE, /* EV_LOG_DONE without store_sync */
    CANARY_REPLY,    /* a client is told twice the token it got */
    CANARY_COUNT
};

enum sim_work { SIM_WORK_LOCKS = 1, SIM_WORK_QUEUES, SIM_WORK_BOTH, SIM_WORK_CACHE, SIM_WORK_ALL };

struct sim_options {
    uint64_t seed;
    uint32_t nodes;        /* 1..9; 0: drawn */
    uint32_t groups;       /* 0: drawn */
    uint32_t clients;      /* 0: drawn */
    uint32_t seconds;      /* of phase one; 0: 30 */
    uint32_t work;         /* enum sim_work; 0: drawn */
    bool lite;             /* fewer clients, groups and requests: for many seeds */
    bool trace;            /* keep the last lines */
    bool verbose;          /* print every line as it happens */
    uint64_t faults_off;   /* bit per fault */
    uint64_t faults_on;    /* bits that are on whatever the seed says */
    enum sim_canary canary;
};

struct sim_result {
    bool failed;
    bool liveness;         /* the failure is of phase two */
    char reason[700];
    uint64_t trace_hash;
    struct buf trace;      /* the last lines when options.trace; owned by the caller (buf_fini) */
    uint64_t fired[FAULT_COUNT];
    uint64_t events, steps, frames, ops, grants, entries, checked_ops, unknown, virtual_ms;
    uint64_t publishes, deliveries, redelivered, acks, dead, holes;
    uint64_t undecided;    /* histories of keys of the cache whose search was not done within its steps */
    uint64_t lost_lines, lost_at_stop; /* of the cache: dirty when their owner died or its lease was over; when it was asked to stop */
    uint64_t snapshots, installs, elections, restarts, answers_ok, answers_error, answers_uncertain;
};

void sim_run(const struct sim_options *o, struct sim_result *out);

/* The command line of synaxis-sim and of `synaxis sim`: exit code 0 all good, 1 a seed failed, 2 usage. */
int sim_main(int argc, char **argv);

#endif
