/* A node's settings: from flags, environment, a file and defaults, in that order of precedence; checked as a whole before
 * anything starts. Pure: the caller passes the environment and a function that reads a file.
 *
 * A setting NAME is the flag --name (dashes for underscores), the environment variable NAME or SYNAXIS_NAME (the latter
 * wins), and the line NAME=value of the file that --config or SYNAXIS_CONFIG names. An empty value counts as not set. */
#ifndef SYN_UTILS_CONFIG_H
#define SYN_UTILS_CONFIG_H

#include "utils/buf.h"
#include "utils/config_table.h"

enum setting {
#define X(name, type, fallback, min, max, choices, meaning) SETTING_##name,
    CONFIG_TABLE(X)
#undef X
    SETTING_COUNT
};

enum setting_type {
    SETTING_TYPE_TEXT,
    SETTING_TYPE_SECRET,
    SETTING_TYPE_NAME,
    SETTING_TYPE_MEMBERS,
    SETTING_TYPE_HOST,
    SETTING_TYPE_NUMBER,
    SETTING_TYPE_PORT,
    SETTING_TYPE_MS,
    SETTING_TYPE_CHOICE,
    SETTING_TYPE_ROLES,
    SETTING_TYPE_CAPACITY,
    SETTING_TYPE_BYTES,
};

struct setting_info {
    const char *name;
    enum setting_type type;
    const char *fallback; /* the default */
    uint64_t min, max;
    const char *choices;  /* "a|b|c" */
    const char *meaning;
};
extern const struct setting_info setting_table[SETTING_COUNT];

enum setting_source { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct setting_value {
    struct buf text;   /* as given, with a terminating zero that len does not count */
    enum setting_source source;
    uint64_t number;   /* NUMBER, PORT, MS, BYTES; CHOICE: place in choices; ROLES: bit set of places; CAPACITY */
    bool is_bytes;     /* CAPACITY: number is bytes, not entries */
};

enum { CONFIG_MEMBERS_MAX = 64 };

struct config_member {
    uint32_t id;      /* node number: config_node_number(name) */
    char name[64];
    char host[256];   /* an IPv6 address without its brackets */
    uint16_t port;
};

enum config_action { CONFIG_RUN, CONFIG_CHECK, CONFIG_PRINT, CONFIG_HELP };

struct config {
    struct setting_value values[SETTING_COUNT];
    enum config_action action; /* --check-config, --print-config, --help */
    struct config_member members[CONFIG_MEMBERS_MAX]; /* CLUSTER_NODES, or this node alone */
    uint32_t n_members;
    uint32_t self;             /* place of NODE_ID in members */
    struct buf warnings;       /* lines; nothing that stops the start */
};

struct config_input {
    int argc;                  /* flags, without the program's and the command's name */
    char *const *argv;
    char *const *env;          /* "NAME=value" strings, NULL at the end; may be NULL */
    void *arg;
    /* Appends the contents of a file; false: not readable, *why says so. May be NULL: no file can be read. */
    bool (*read_file)(void *arg, const char *path, struct buf *out, const char **why);
};

/* Initialises and fills c. False: `error` gets one line (without newline) that names the setting, its value and what it
 * accepts; c must be finished all the same. */
bool config_load(struct config *c, const struct config_input *in, struct buf *error);
void config_fini(struct config *c);

/* Resolved values: 0-as-automatic is resolved (GROUPS, PEER_PORT), REPLICATION_FACTOR is at most the number of members. */
uint64_t config_number(const struct config *c, enum setting s);
bool config_is_bytes(const struct config *c, enum setting s); /* CAPACITY: its number is of bytes, not of entries */
const char *config_text(const struct config *c, enum setting s);
static inline const struct config_member *config_self(const struct config *c) { return &c->members[c->self]; }

/* The number of a node name: letters, dashes and underscores followed by 1 to 9999 give that number, so that n1 is 1 on
 * every node and in every trace; any other name 10000 + crc32c(name) mod 2^31. */
uint32_t config_node_number(slice_t name);

/* One member as CLUSTER_NODES names it, id@host:port. False: `error` says what it should look like. */
bool config_parse_member(slice_t text, struct config_member *out, struct buf *error);

/* Appends NAME=value lines with where each came from; secrets as ***. */
void config_print(const struct config *c, struct buf *out);
/* Appends the text of `synaxis server --help`. */
void config_help(struct buf *out);
/* Appends what values of a setting look like: "a port from 1 to 65535", "raft or pbft", ... */
void setting_accepts(const struct setting_info *s, struct buf *out);

#endif
