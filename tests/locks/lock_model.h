/* What locks mean, in the smallest words: the reference that the lock state machine is compared with. Owners and resources are
 * small numbers; an owner has at most one request waiting. Nothing here is shared with the implementation. */
#ifndef TESTS_LOCKS_LOCK_MODEL_H
#define TESTS_LOCKS_LOCK_MODEL_H

#include <stdbool.h>

enum { MODEL_OWNERS = 3, MODEL_RESOURCES = 2, MODEL_COUNT_MAX = 2 };
enum model_mode { M_NONE, M_SHARED, M_EXCLUSIVE };
enum model_answer { M_NO_ANSWER, M_GRANTED, M_LOCKED, M_DEADLOCK, M_STALE, M_GONE };

struct model {
    struct {
        unsigned char mode, count;                /* of each owner's hold */
    } holds[MODEL_RESOURCES][MODEL_OWNERS];
    struct {
        signed char owner;                        /* -1: nobody */
        bool ahead;
    } queue[MODEL_RESOURCES][MODEL_OWNERS];
    struct {
        unsigned char mode, resources;            /* a set; 0: does not wait */
        unsigned char rank;                       /* how many of those that wait came before */
        bool converts;
    } waits[MODEL_OWNERS];
};

/* What each owner's request was answered by the last operation. */
struct model_answers {
    enum model_answer of[MODEL_OWNERS];
};

void model_init(struct model *m);
/* resources: a set (1 << r), more than one for all or nothing. wait: else refused when it cannot be had. */
void model_acquire(struct model *m, int owner, unsigned resources, enum model_mode mode, bool wait, struct model_answers *a);
void model_convert(struct model *m, int owner, int resource, enum model_mode mode, bool wait, struct model_answers *a);
void model_release(struct model *m, int owner, int resource, struct model_answers *a);
void model_force(struct model *m, int resource, struct model_answers *a);
void model_leave(struct model *m, int owner, struct model_answers *a);     /* its request waits no longer, whatever the reason */
void model_end(struct model *m, int owner, struct model_answers *a);       /* all it holds and waits for goes at once */
/* K8: nobody could ever go on, although everyone who does not wait lets go of everything. */
bool model_deadlocked(const struct model *m);

#endif
