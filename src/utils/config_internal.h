/* Inside the configuration: what config.c, config_value.c, config_members.c and config_check.c share. */
#ifndef SYN_UTILS_CONFIG_INTERNAL_H
#define SYN_UTILS_CONFIG_INTERNAL_H

#include "utils/config.h"

/* config_value.c: parses text into v->number and v->is_bytes. False: it is not a value of that setting. */
bool setting_parse(const struct setting_info *s, slice_t text, struct setting_value *v);
slice_t config_trim(slice_t s);
/* Cuts *rest at the first `separator`: what stands before it, trimmed. False: *rest is used up (its ptr is NULL). */
bool config_next(slice_t *rest, char separator, slice_t *item);
bool config_name_ok(slice_t name);

/* config_members.c: fills members from CLUSTER_NODES, or with this node alone, and finds `self`. */
bool config_read_members(struct config *c, struct buf *error);

/* config_check.c: what no single setting can know. */
bool config_cross_check(struct config *c, struct buf *error);

static inline bool config_is_set(const struct config *c, enum setting s) { return c->values[s].source != FROM_DEFAULT; }

#endif
