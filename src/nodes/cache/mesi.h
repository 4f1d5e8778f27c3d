/* The coherence protocol as two tables: a line at a cacher, a key at its home (docs/cache.md; MESI after Papamarcos and Patel 1984, transient states after
 * Sorin, Hill, Wood: A Primer on Memory Consistency and Cache Coherence, ch. 8). cacher.c and home.c do what a cell says; a test walks both
 * through everything that a network and crashes may do to three nodes, and docs/cache.md shows them (gen_docs). */
#ifndef SYN_NODES_CACHE_MESI_H
#define SYN_NODES_CACHE_MESI_H

#include <stdint.h>

enum mesi_state {
    MESI_I,   /* no copy */
    MESI_S,   /* a copy, others may have one */
    MESI_E,   /* the only copy; memory has it, too */
    MESI_M,   /* the only copy; memory is behind */
    MESI_IS,  /* asked to read, waits for data */
    MESI_ISI, /* the same, invalidated meanwhile: data is good for those that asked before, once */
    MESI_IM,  /* asked to own, or to write: no copy */
    MESI_SM,  /* the same, from S: the copy is not read any more */
    MESI_EM,  /* a write through from E is on its way */
    MESI_MI,  /* dirty, given up: waits until memory has it */
    MESI_MS,  /* dirty, shared: waits until memory has it */
    MESI_MF,  /* dirty, being flushed, still owned */
    MESI_STATES
};

enum mesi_event {
    MESI_PRRD,     /* a read here */
    MESI_PRWR,     /* a write here that goes through to memory */
    MESI_PRWB,     /* a write here that stays until it is flushed */
    MESI_EVICT,    /* its place is wanted */
    MESI_TICK,     /* CACHE_FLUSH_INTERVAL is over */
    MESI_DATA_S,   /* the home answers: a shared copy, */
    MESI_DATA_E,   /* the only one, */
    MESI_DATA_M,   /* ownership, */
    MESI_DATA_OLD, /* or any of these, sent before a snoop that was seen here */
    MESI_DONE_E,   /* the last write through on its way is done, and the line is ours */
    MESI_DONE,     /* ... and it is not */
    MESI_FAILED,   /* ... certainly not done */
    MESI_INV,      /* snooped BusRdX, BusUpgr or a write */
    MESI_DOWN,     /* snooped BusRd */
    MESI_FLUSHED,  /* memory has it */
    MESI_REFUSED,  /* memory has something newer: ours is lost */
    MESI_LOST,     /* the lease is over, or another home leads */
    MESI_EVENTS
};

enum mesi_action {
    ACT_HIT = 1 << 0,      /* answer the read from the line */
    ACT_STALL = 1 << 1,    /* it waits at the line */
    ACT_GETS = 1 << 2,     /* BusRd */
    ACT_GETX = 1 << 3,     /* BusRdX */
    ACT_UPGR = 1 << 4,     /* BusUpgr */
    ACT_WRITE = 1 << 5,    /* the write goes to the home */
    ACT_DO = 1 << 6,       /* the write is done in the line */
    ACT_FLUSH = 1 << 7,    /* Flush */
    ACT_ACK = 1 << 8,      /* answer the snoop: nothing of it is left here that it forbids */
    ACT_ACKD = 1 << 9,     /* the same with the dirty value, which the home writes to memory */
    ACT_INSTALL = 1 << 10, /* the line becomes what came */
    ACT_ONCE = 1 << 11,    /* what came is for those that asked before the snoop */
    ACT_WAKE = 1 << 12,    /* who waits at the line is looked at again */
    ACT_BASE = 1 << 13,    /* memory's version is the line's from now on */
    ACT_DROP = 1 << 14,    /* the copy goes */
    ACT_COUNT = 1 << 15,   /* a write is lost: counted, logged */
    ACT_AGAIN = 1 << 16,   /* ask anew: what came is of no use */
};

/* Instead of a next state. Both are asserted when the table is asked: what a peer sent must have been judged before. */
enum {
    CELL_UNREAD = 254, /* it answers no transaction of this state, or not with what was asked: left unread, or refused and counted, before the table is asked */
    CELL_NEVER = 255,  /* cannot happen, whatever peers send */
};
struct mesi_cell { uint8_t next; uint32_t actions; };
extern const struct mesi_cell MESI_TABLE[MESI_STATES][MESI_EVENTS];
extern const char *const MESI_STATE_NAMES[MESI_STATES], *const MESI_EVENT_NAMES[MESI_EVENTS];

/* A key at its home. Its copies: none, some that share, or one owner. */
enum home_state {
    HOME_I,   /* nobody has it */
    HOME_S,   /* some share it */
    HOME_O,   /* one owns it: E or M there */
    HOME_OS,  /* the owner was asked to go down for a read */
    HOME_OF,  /* ... and was dirty: its value is on its way to memory */
    HOME_X,   /* copies are being invalidated for a new owner */
    HOME_XF,  /* ... and one was dirty: its value is on its way to memory */
    HOME_W,   /* copies are being invalidated for writes through */
    HOME_L,   /* the owner is lost with what it may have written: a fence is on its way to memory */
    HOME_STATES
};

enum home_event {
    HOME_GETS,    /* asks to read: no copy elsewhere that forbids it, or one that shares */
    HOME_GETS_O,  /* ... while another owns it */
    HOME_GETX,    /* asks to own (BusRdX, or BusUpgr of who shares it): nobody else has it */
    HOME_GETX_O,  /* ... while others have it */
    HOME_WRITE,   /* a write through is proposed or applied: nobody but the writer has it */
    HOME_WRITE_O, /* ... others have it */
    HOME_ACK,     /* the last cacher asked has answered, or its lease is over, and nothing was dirty */
    HOME_ACKD,    /* the owner answered with a dirty value */
    HOME_FLUSH,   /* the owner flushes unasked */
    HOME_FLUSHED, /* the flush is in memory */
    HOME_OVER,    /* the owner's lease is over, and it has not answered */
    HOME_FENCED,  /* the fence is in memory */
    HOME_EVENTS
};

enum home_action {
    HACT_GRANT_S = 1 << 0, /* data; one more shares it */
    HACT_GRANT_E = 1 << 1, /* data; who asked owns it, clean */
    HACT_GRANT_M = 1 << 2, /* who asked owns it and may write */
    HACT_DOWN = 1 << 3,    /* ask the owner to go down */
    HACT_INV = 1 << 4,     /* invalidate all others */
    HACT_WAIT = 1 << 5,    /* the request waits at the key */
    HACT_FLUSH = 1 << 6,   /* propose the value to memory */
    HACT_PASS = 1 << 7,    /* the reads that wait are answered with it at once */
    HACT_FENCE = 1 << 8,   /* propose a fence */
    HACT_NEXT = 1 << 9,    /* look at what waits */
    HACT_SHARE = 1 << 10,  /* the owner shares from now on */
    HACT_CLEAR = 1 << 11,  /* nobody has it any more */
    HACT_TELL = 1 << 12,   /* tell the cacher that its flush is in memory */
};
struct home_cell { uint8_t next; uint32_t actions; };
extern const struct home_cell HOME_TABLE[HOME_STATES][HOME_EVENTS];
extern const char *const HOME_STATE_NAMES[HOME_STATES], *const HOME_EVENT_NAMES[HOME_EVENTS];

/* The actions of a cell in words, for the docs and traces. */
struct buf;
void mesi_put_actions(struct buf *out, uint32_t actions);
void home_put_actions(struct buf *out, uint32_t actions);

#endif
