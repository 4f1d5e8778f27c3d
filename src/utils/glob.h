/* Patterns of KEYS, SCAN and LOCK.LIST, as Redis has them: * ? [a-c] [^x] and \ before a byte that is meant as it is. */
#ifndef SYN_UTILS_GLOB_H
#define SYN_UTILS_GLOB_H

#include "utils/slice.h"

/* In time proportional to the product of both lengths at most, without recursion. */
bool glob_match(slice_t pattern, slice_t s);

#endif
