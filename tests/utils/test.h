/* What every cmocka program includes, in the order cmocka wants it. */
#ifndef TESTS_UTILS_TEST_H
#define TESTS_UTILS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
