/* The kernel calls of a training step, one function each: generated for pock_profile. */
#ifndef POCK_CALLS_H
#define POCK_CALLS_H

#include <stdint.h>

typedef int32_t (*pock_call)(unsigned char *frozen, unsigned char *state, unsigned char *arena);

extern const pock_call pock_calls[];
extern const uint32_t pock_call_count;

#endif
