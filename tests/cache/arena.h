/* Memory whose whole content can be saved and put back: between arena_enter and arena_leave malloc and its kin take from it (the linker wraps them). It lies at
 * one address, so pointers in it are good again after arena_load. For explorers that go back to a state instead of working it out anew. */
#ifndef SYN_TESTS_ARENA_H
#define SYN_TESTS_ARENA_H

#include <stddef.h>

void *arena_open(size_t root_bytes);   /* forgets everything; the root block, all zero */
void arena_enter(void);
void arena_leave(void);
size_t arena_image_bytes(void);        /* room that arena_save needs now */
size_t arena_save(void *to);
void arena_load(const void *from);
void arena_check(void);                /* asserts that what is never saved has not changed */

#endif
