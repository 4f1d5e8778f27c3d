/* The error words: the first word of a RESP error, `code` in an HTTP error. A word is a contract: programs branch on it.
 * Declared once, here; docs/errors.md is generated from this table, and error_find maps a word back. */
#ifndef SYN_UTILS_ERRORS_H
#define SYN_UTILS_ERRORS_H

#include "utils/slice.h"

/* X(word, HTTP status, what happened, what to do) */
#define ERROR_WORDS(X)                                                                                                   \
    X(ERR, 400, "The request is malformed: unknown command, wrong arity or a bad value.", "Correct the request.")       \
    X(WRONGTYPE, 400, "The key holds a value of another type.", "Use the commands of that type, or another key.")      \
    X(NOAUTH, 401, "The connection has not authenticated.", "Send AUTH, or HELLO 3 AUTH user password.")               \
    X(WRONGPASS, 401, "User and password do not match.", "Correct them; repeated failures are slowed down.")          \
    X(NOPERM, 403, "The user may not run this command or touch this name.", "Ask for the permission (ACL_FILE).")     \
    X(NOPROTO, 400, "HELLO asked for a protocol version other than 2 or 3.", "Ask for 2 or 3.")                        \
    X(LOADING, 503, "No leader yet, or the node is still recovering; certainly nothing was done.",                      \
      "Retry; this is safe.")                                                                                            \
    X(UNCERTAIN, 504, "The reply was lost with a leader; the command may or may not take effect.",                      \
      "Retry with the same IDEM id, or read the state first.")                                                           \
    X(NOQUORUM, 503, "A majority of the group's replicas cannot be reached; nothing was done.",                         \
      "Retry later; look at the cluster's health.")                                                                      \
    X(BUSY, 503, "More requests are in flight than the node takes on; nothing was done.", "Retry after a pause.")     \
    X(LOCKED, 409, "The lock is held and WAIT was 0; the text names the holders.", "Retry, or pass WAIT.")            \
    X(TIMEOUT, 408, "The wait time ran out before the lock was granted.", "Retry, or wait longer.")                   \
    X(DEADLOCK, 409, "Waiting would have closed a cycle; the text names it.",                                           \
      "Release what you hold, then start over.")                                                                         \
    X(STALE, 409, "The lock id is not, or no longer, a holder's; the text names the current token.",                    \
      "Stop acting on that lock; acquire it anew.")                                                                      \
    X(NOSESSION, 404, "The session has ended or never was; what it held is freed.", "Create a new session.")          \
    X(CROSSGROUP, 422, "The names live in different groups, and the command is all or nothing.",                        \
      "Give the names a common {tag}.")                                                                                  \
    X(FENCED, 412, "A newer fencing token than the given one was granted.", "Stop: the lock was lost; acquire anew.") \
    X(FULL, 507, "The disk or its reserve is full; nothing was done.", "Free space; reads and releases go on.")       \
    X(OOM, 507, "The keys of a group have reached their part of CACHE_MEMORY; nothing was done.",                          \
      "Delete keys, give them times to live, or raise CACHE_MEMORY.")                                                    \
    X(NOSCRIPT, 404, "The node knows no script of that hash.", "Send its text with EVAL.")                              \
    X(LIMIT, 422, "A bound was reached; the text names it.", "Stay below it; docs/settings.md lists what can be set.") \
    X(NOKEY, 404, "There is no such key, or its time to live is over.", "Read it from where it comes from, or set it.")   \
    X(NOTOPIC, 404, "There is no such topic.", "Create it, or publish to it, which makes it.")                        \
    X(TOPICEXISTS, 409, "A topic of that name has other options.", "Look with QUEUE.INFO; change with QUEUE.ALTER.")   \
    X(NOGROUP, 404, "There is no such consumer group, or no such stream.", "Create it, or consume, which makes it.")   \
    X(BUSYGROUP, 409, "The consumer group exists already.", "Use it, or destroy it first.")                             \
    X(STALEFILL, 409, "The right to fill is over: the key was written, deleted or filled since, or somebody else has the right.",   \
      "Use the value for this one answer, do not cache it; ask with CACHE.LEASE again.")                                   \
    X(STALERECEIPT, 409, "The delivery is over: acknowledged, timed out, or its partition has a new member.",           \
      "Do not act on it any more; the message may be with another consumer.")                                            \
    X(UNBLOCKED, 409, "The wait was ended by CLIENT UNBLOCK, FORCE or a shutdown.", "Acquire again where still wanted.")

enum error_word {
#define X(word, http, what, todo) ERROR_##word,
    ERROR_WORDS(X)
#undef X
    ERROR_WORD_COUNT
};

struct error_info {
    const char *word;
    int http_status;
    const char *what;
    const char *todo;
};

extern const struct error_info error_table[ERROR_WORD_COUNT];

static inline const char *error_word(enum error_word e) { return error_table[e].word; }
static inline int error_http_status(enum error_word e) { return error_table[e].http_status; }
/* The word that `text` begins with, up to its first space, with or without a leading '-'. False: none of ours. */
bool error_find(slice_t text, enum error_word *out);

#endif
