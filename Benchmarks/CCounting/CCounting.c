// Counts allocations by standing in front of the C library's allocator, which a program may replace (glibc manual,
// "Replacing malloc"). Swift's runtime allocates through these functions.

#include "CCounting.h"

#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static int is_counting;
static ccounting_totals totals;

static void count(size_t size) {
  if (!__atomic_load_n(&is_counting, __ATOMIC_RELAXED)) return;
  __atomic_fetch_add(&totals.allocations, 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&totals.bytes, size, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
  count(size);
  return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
  count(items * size);
  return __libc_calloc(items, size);
}

void *realloc(void *block, size_t size) {
  count(size);
  return __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  count(size);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
  count(size);
  *block = __libc_memalign(alignment, size);
  return *block ? 0 : 12;
}

__attribute__((noinline)) void ccounting_run(void (*body)(void *), void *context) {
  __atomic_store_n(&is_counting, 1, __ATOMIC_RELAXED);
  body(context);
  __atomic_store_n(&is_counting, 0, __ATOMIC_RELAXED);
}

ccounting_totals ccounting_read(void) { return totals; }
