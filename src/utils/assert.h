/* syn_assert: always on, in every build. It states what can only be false through a bug of our own;
 * no byte that came from a network, a disk or an operator may reach it (docs/architecture.md, "Errors"). */
#ifndef SYN_UTILS_ASSERT_H
#define SYN_UTILS_ASSERT_H

/* Prints file, line and expression to stderr and aborts. Never returns. */
__attribute__((noreturn, cold)) void syn_assert_failed(const char *file, int line, const char *expr);

#define syn_assert(cond) \
    (__builtin_expect(!!(cond), 1) ? (void)0 : syn_assert_failed(__FILE__, __LINE__, #cond))

#define SYN_UNREACHABLE() syn_assert_failed(__FILE__, __LINE__, "unreachable")

#endif
