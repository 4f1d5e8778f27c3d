/* CLUSTER_NODES: who the members are, their numbers, and which of them this node is. Refuses what could make two nodes one
 * (H1): a name or address given twice, two names with one number, a node that is not in its own list. */
#include "utils/config_internal.h"

#include "utils/crc32c.h"

#include <stdio.h>

uint32_t config_node_number(slice_t name)
{
    size_t digits = 0;
    while (digits < name.len && name.ptr[name.len - digits - 1] >= '0' && name.ptr[name.len - digits - 1] <= '9') {
        digits++;
    }
    uint32_t number = 0;
    bool plain = digits > 0;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t b = name.ptr[i];
        if (i >= name.len - digits) {
            number = number > 9999 ? number : number * 10 + (b - '0');
        } else if (b >= '0' && b <= '9') {
            plain = false;
        }
    }
    if (plain && number >= 1 && number <= 9999) {
        return number;
    }
    return 10000 + (crc32c(0, name.ptr, name.len) & 0x7fffffff);
}

static void copy(char *to, size_t size, slice_t s)
{
    snprintf(to, size, "%.*s", (int)s.len, (const char *)s.ptr);
}

/* host:port, the host perhaps in [brackets]. */
static bool parse_address(slice_t s, struct config_member *m)
{
    static const struct setting_info port_info = {"", SETTING_TYPE_PORT, "", 1, 65535, "", ""};
    static const struct setting_info host_info = {"", SETTING_TYPE_HOST, "", 0, 255, "", ""};
    const uint8_t *colon = s.len > 0 ? memrchr(s.ptr, ':', s.len) : NULL;
    struct setting_value v = {0};
    if (colon == NULL || !setting_parse(&port_info, slice_of(colon + 1, (size_t)(s.ptr + s.len - colon - 1)), &v)) {
        return false;
    }
    slice_t host = slice_of(s.ptr, (size_t)(colon - s.ptr));
    bool bracketed = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (bracketed) {
        host = slice_of(host.ptr + 1, host.len - 2);
    } else if (host.len > 0 && memchr(host.ptr, ':', host.len) != NULL) {
        return false;
    }
    m->port = (uint16_t)v.number;
    copy(m->host, sizeof m->host, host);
    return setting_parse(&host_info, host, &v);
}

static bool parse_member(struct config *c, slice_t item, struct buf *error)
{
    if (c->n_members == CONFIG_MEMBERS_MAX) {
        buf_printf(error, "CLUSTER_NODES names more than %d nodes", CONFIG_MEMBERS_MAX);
        return false;
    }
    struct config_member *m = &c->members[c->n_members];
    const uint8_t *at = item.len > 0 ? memchr(item.ptr, '@', item.len) : NULL;
    slice_t name = at != NULL ? slice_of(item.ptr, (size_t)(at - item.ptr)) : SLICE_NONE;
    slice_t address = at != NULL ? slice_of(at + 1, item.len - name.len - 1) : item;
    if (at != NULL && !config_name_ok(name)) {
        buf_printf(error, "CLUSTER_NODES: '%.*s' is not a node's name: it takes letters, digits, - and _, at most 63",
                   (int)name.len, (const char *)name.ptr);
        return false;
    }
    if (!parse_address(address, m)) {
        buf_printf(error, "CLUSTER_NODES: '%.*s' is not [id@]host:port with a port from 1 to 65535", (int)item.len,
                   item.ptr != NULL ? (const char *)item.ptr : "");
        return false;
    }
    if (at != NULL) {
        copy(m->name, sizeof m->name, name);
    } else {
        snprintf(m->name, sizeof m->name, "n%u", c->n_members + 1);
    }
    m->id = config_node_number(slice_str(m->name));
    c->n_members++;
    return true;
}

static bool members_differ(const struct config *c, struct buf *error)
{
    for (uint32_t i = 0; i < c->n_members; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const struct config_member *a = &c->members[j], *b = &c->members[i];
            if (strcmp(a->name, b->name) == 0) {
                buf_printf(error, "CLUSTER_NODES names %s twice", a->name);
                return false;
            }
            if (a->id == b->id) {
                buf_printf(error, "CLUSTER_NODES: %s and %s would both be node number %u; give one of them another number",
                           a->name, b->name, a->id);
                return false;
            }
            if (strcmp(a->host, b->host) == 0 && a->port == b->port) {
                buf_printf(error, "CLUSTER_NODES gives %s and %s the same address %s:%u", a->name, b->name, a->host, a->port);
                return false;
            }
        }
    }
    return true;
}

static bool find_self(struct config *c, struct buf *error)
{
    const char *name = config_text(c, SETTING_NODE_ID);
    if (name[0] == '\0' && c->n_members == 1) {
        return true;
    }
    for (c->self = 0; c->self < c->n_members; c->self++) {
        if (strcmp(c->members[c->self].name, name) == 0) {
            return true;
        }
    }
    c->self = 0;
    if (name[0] == '\0') {
        buf_append_str(error, "NODE_ID is not set: it says which node of CLUSTER_NODES this is; one of");
    } else {
        buf_printf(error, "NODE_ID=%s is not in CLUSTER_NODES; it takes one of", name);
    }
    for (uint32_t i = 0; i < c->n_members; i++) {
        buf_printf(error, "%s %s", i > 0 ? "," : "", c->members[i].name);
    }
    return false;
}

static void set_alone(struct config *c)
{
    struct config_member *m = &c->members[0];
    const char *name = config_text(c, SETTING_NODE_ID);
    snprintf(m->name, sizeof m->name, "%s", name[0] != '\0' ? name : "n1");
    snprintf(m->host, sizeof m->host, "127.0.0.1");
    m->port = (uint16_t)c->values[SETTING_PEER_PORT].number;
    m->id = config_node_number(slice_str(m->name));
    c->n_members = 1;
}

bool config_read_members(struct config *c, struct buf *error)
{
    slice_t rest = buf_slice(&c->values[SETTING_CLUSTER_NODES].text), item;
    size_t named = 0;
    c->n_members = 0;
    c->self = 0;
    if (rest.len == 0) {
        set_alone(c);
        return true;
    }
    while (config_next(&rest, ',', &item)) {
        named += item.len > 0 && memchr(item.ptr, '@', item.len) != NULL;
        if (!parse_member(c, item, error)) {
            return false;
        }
    }
    if (named != 0 && named != c->n_members) {
        buf_append_str(error, "CLUSTER_NODES: either every node has an id (id@host:port) or none");
        return false;
    }
    if (!members_differ(c, error) || !find_self(c, error)) {
        return false;
    }
    if (!config_is_set(c, SETTING_PEER_PORT)) {
        c->values[SETTING_PEER_PORT].number = c->members[c->self].port;
    }
    return true;
}

bool config_parse_member(slice_t text, struct config_member *out, struct buf *error)
{
    struct config c = {0};
    if (text.len == 0 || memchr(text.ptr, '@', text.len) == NULL) {
        buf_append_str(error, "a member is id@host:port");
        return false;
    }
    bool ok = parse_member(&c, text, error);
    *out = c.members[0];
    return ok;
}
