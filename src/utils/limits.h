/* Every bound of the product, each with its reason. Whatever grows with what others send has its bound here; at the bound
 * the request is refused (LIMIT, BUSY or a protocol error), counted, and nothing else is disturbed. Bytes unless the name
 * ends in a unit or names what is counted. Bounds that an operator may set are in config_table.h. */
#ifndef SYN_UTILS_LIMITS_H
#define SYN_UTILS_LIMITS_H

enum {
    /* RESP, before a connection has authenticated: what a stranger may make us hold (CVE-2021-32675 held gigabytes). */
    LIMIT_PREAUTH_ARGS = 8,                        /* HELLO 3 AUTH u p SETNAME n is 7 */
    LIMIT_PREAUTH_ARG_BYTES = 1024,                /* a long password fits */
    LIMIT_PREAUTH_BYTES = 64 * 1024,               /* whole command and everything unread behind it */
    LIMIT_PREAUTH_MS = 5000,                       /* time to authenticate; an idle stranger frees its place */

    /* RESP, of an authenticated client. */
    LIMIT_RESP_ARGS = 1024,                        /* ACQUIREALL and batches fit; the argument table stays at 16 KiB */
    LIMIT_KEY_BYTES = 1024,                        /* names of locks, keys, topics: a name is no place for data */
    LIMIT_VALUE_BYTES = 1024 * 1024,               /* one value holds up the loop and the log for under 2 ms */
    LIMIT_COMMAND_BYTES = 2 * 1024 * 1024,         /* one command, all arguments; as an entry it must fit a frame */
    LIMIT_INLINE_BYTES = 4 * 1024,                 /* typed by hand; without a newline it must end somewhere */
    LIMIT_ERROR_ECHO_BYTES = 128,                  /* of a client's words in an error: Redis' bound */
    LIMIT_RESP_STALL_MS = 60 * 1000,               /* a command begun, and not a byte more: its sender is gone; its buffer is freed */
    LIMIT_PIPELINE = 1024,                         /* per connection and turn: no client starves another of the loop */
    LIMIT_OUTPUT_BYTES = 4 * 1024 * 1024,          /* unsent replies; beyond it reading stops, then the connection closes */

    /* HTTP/1.1. */
    LIMIT_HTTP_LINE_BYTES = 8 * 1024,              /* request line: RFC 9112 section 3 asks for at least 8000 */
    LIMIT_HTTP_HEADERS = 64,                       /* browsers behind proxies send about 30 */
    LIMIT_HTTP_HEADER_BYTES = 16 * 1024,           /* all headers together, as nginx and Node.js */
    LIMIT_HTTP_BODY_BYTES = 1024 * 1024,           /* a value and its JSON */
    LIMIT_HTTP_HEADER_MS = 10 * 1000,              /* whole header block: a slow drip ends (slowloris) */
    LIMIT_HTTP_BODY_MS = 30 * 1000,                /* whole body */
    LIMIT_HTTP_BODY_GRACE_MS = 5 * 1000,           /* after it a body must have come at ... */
    LIMIT_HTTP_BODY_RATE = 1024,                   /* ... so many bytes a second, the whole time over */
    LIMIT_HTTP_IDLE_MS = 75 * 1000,                /* a connection without a request, as nginx */
    LIMIT_HTTP_PIPELINE = 32,                      /* unanswered requests per connection; then reading stops */
    LIMIT_JSON_DEPTH = 16,                         /* our own requests need 4 */

    /* Between nodes. */
    LIMIT_FRAME_BYTES = 4 * 1024 * 1024,           /* one turn's messages to a peer; refused before memory is taken */
    LIMIT_FRAME_DEPTH = 8,                         /* msgpack nesting; our messages need 4 */
    LIMIT_FRAME_ELEMENTS = 1024 * 1024,            /* msgpack elements in one frame, counts believed only within it */
    LIMIT_TERM_JUMP = 1 << 20,                     /* a term further ahead than this is refused: it would wedge elections */

    /* Locks and sessions. */
    LIMIT_OWNER_BYTES = 128,                       /* an owner is shown in every error and graph edge */
    LIMIT_META_BYTES = 4 * 1024,                   /* lives in replicated memory for as long as the lock */
    LIMIT_REASON_BYTES = 256,                      /* FORCE ... REASON, for the audit line */
    LIMIT_SESSION_NAME_BYTES = 128,
    LIMIT_IDEM_BYTES = 128,                        /* a UUID with a prefix */
    LIMIT_ACQUIREALL_NAMES = 64,                   /* one entry; 64 names of 1 KiB are 64 KiB of log */
    LIMIT_WAITERS_PER_RESOURCE = 65536,            /* beyond, the wait is longer than any deadline; refused with LIMIT */
    LIMIT_HOLDERS_PER_RESOURCE = 65536,            /* shared holders */
    LIMIT_SESSIONS = 1000 * 1000,                  /* in group 0; about 200 MB */
    LIMIT_LOCKS_PER_GROUP = 10 * 1000 * 1000,      /* held or awaited names; about 3 GB beyond their names */
    LIMIT_TTL_MS_MIN = 10,                         /* below a network round trip a lock is lost before it is known */
    LIMIT_TTL_MS_MAX = 24 * 60 * 60 * 1000,        /* a lock needed longer renews: a dead holder blocks no more than a day */
    LIMIT_TTL_MS = LIMIT_TTL_MS_MAX,               /* for any duration a client gives with a lock: TTL, MAXHOLD, WAIT */
    LIMIT_WAIT_MS_MAX = LIMIT_TTL_MS_MAX,          /* nobody waits longer than a lock can be held */
    LIMIT_DEADLOCK_NAMES = 64,                     /* owners and resources named in a DEADLOCK error; longer cycles are cut */
    LIMIT_IDEM_ENTRIES = 100 * 1000,               /* remembered replies per group, by age and by this count */
    LIMIT_IDEM_MS = 2 * 60 * 1000,                 /* longer than any client's retries */
    LIMIT_LIST_REPLY = 1000,                       /* rows in one LIST reply; the cursor leads on */

    /* Queues. */
    LIMIT_PARTITIONS = 1024,                       /* of a topic; more topics cost the same as more partitions */
    LIMIT_TOPICS = 100 * 1000,                     /* in group 0, about 300 bytes each */
    LIMIT_GROUPS_PER_TOPIC = 1000,                 /* each has a position at every partition */
    LIMIT_MEMBERS_PER_GROUP = 10 * 1000,           /* more than partitions are idle anyhow */
    LIMIT_CONSUMER_BYTES = 128,                    /* names of consumer groups and consumers */
    LIMIT_CLAIM_MESSAGES = 10 * 1000,              /* deliveries of one claim: 450 KB of reply, under 2 ms of applying */
    LIMIT_PENDING_PER_POSITION = 100 * 1000,       /* in flight, available again or waiting; 25 MB; beyond, nothing new is taken */
    LIMIT_DEAD_PER_POSITION = 1000 * 1000,         /* 250 MB: a consumer that refuses everything is held up, not the node */
    LIMIT_DELAYED_PER_PARTITION = 100 * 1000,      /* delayed messages keep a timer each; 8 MB; PUBLISH_LIMIT beyond */
    LIMIT_ERASED_PER_PARTITION = 1000 * 1000,      /* deleted in the middle, 8 bytes each */
    LIMIT_ORDERED_BACKLOG = 16 * 1000 * 1000,      /* four bytes a message are kept in memory of an ORDERED partition */
    LIMIT_GROUPS_PER_PARTITION = 1024,             /* each holds messages back and is looked at when one is consumed */
    LIMIT_CONSUMERS_PER_POSITION = 10 * 1000,      /* XREADGROUP makes them by name, nothing but XGROUP DELCONSUMER ends them */
    LIMIT_PARTS_PER_CLAIM = 4096,                  /* partitions of one topic in one group */

    /* Doors of one node. */
    LIMIT_CONNECTIONS = 10 * 1000,                 /* Redis' default; each may hold a buffer */
    LIMIT_REQUESTS_PARKED = 100 * 1000,            /* waiting for a leader; beyond it BUSY at once */
    LIMIT_LOG_LINE_BYTES = 2 * 1024,               /* one log line, escaped */
    LIMIT_LOG_LINES_PER_SECOND = 1,                /* per source of trouble (bad input, one peer) */
};

/* Time to live of a key, by HTTP and the command line: a hundred years. SET itself takes whatever ends before the end of time, as in Redis. */
#define LIMIT_EXPIRY_MS (100ull * 366 * 24 * 60 * 60 * 1000)

#endif
