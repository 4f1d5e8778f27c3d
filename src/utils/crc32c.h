/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 where the CPU has it, a table otherwise. */
#ifndef SYN_UTILS_CRC32C_H
#define SYN_UTILS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Extends crc (0 for a new sum) over n bytes. crc32c(0, "123456789", 9) == 0xe3069283. */
uint32_t crc32c(uint32_t crc, const void *data, size_t n);
/* The table version, for tests that hold the two against each other. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t n);

#endif
