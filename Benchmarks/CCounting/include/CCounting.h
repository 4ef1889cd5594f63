#ifndef CCOUNTING_H
#define CCOUNTING_H

#include <stdint.h>

/// What a counted stretch of the program has asked of the allocator.
typedef struct {
  uint64_t allocations;
  uint64_t bytes;
} ccounting_totals;

/// Runs `body`. While it runs, this process' allocations are counted; a tool that counts instructions can be told
/// to do so within this function alone (callgrind's --toggle-collect).
void ccounting_run(void (*body)(void *), void *context);

/// All that was counted so far.
ccounting_totals ccounting_read(void);

#endif
