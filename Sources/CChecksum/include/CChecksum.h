#pragma once
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `count` bytes, continuing from `crc`.
/// Uses the CPU's instruction where there is one, else a table of eight slices.
uint32_t martlet_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The table form alone, so that a test can hold the two against each other.
uint32_t martlet_crc32c_portable(uint32_t crc, const void *bytes, size_t count);
