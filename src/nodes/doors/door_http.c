/* The HTTP door: being filled. */
#include "nodes/doors/door.h"

size_t http_door_data(struct node *n, struct conn *c, slice_t data)
{
    conn_close(n, c);
    return data.len;
}

void http_door_fini(struct conn *c)
{
    (void)c;
}

void http_door_timers(struct node *n, struct conn *c)
{
    (void)n;
    (void)c;
}
