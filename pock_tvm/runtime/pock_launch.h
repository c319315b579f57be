/* The kernels of an artifact whose target has a GPU: tables generated into pock_kernels.c, run by the file for its
 * driver (pock_opencl.c, pock_cuda.c, pock_metal.c). */
#ifndef POCK_LAUNCH_H
#define POCK_LAUNCH_H

#include <stdint.h>

typedef struct {
  const char *name;
  uint32_t arguments;
  uint32_t groups[3], threads[3]; /* work-groups along each axis, threads in each */
} pock_device_kernel;

/* A tensor: where it starts in its region. */
typedef struct {
  uint64_t start;
  uint32_t region;
} pock_argument;

typedef struct {
  uint32_t kernel, first; /* rows of pock_kernels, and of pock_arguments for its first argument */
} pock_launch;

extern const pock_device_kernel pock_kernels[];
extern const uint32_t pock_kernel_count;
extern const pock_argument pock_arguments[];
extern const char *const pock_sources[];  /* OpenCL: one per kernel; Metal: one with all */
extern const unsigned char pock_image[];  /* CUDA: a cubin with all of them, and */
extern const int pock_architecture;       /* what it was assembled for: 87 is compute capability 8.7 */

/* Run an entry point of the session that the calling thread is in; 0, or an error code and its message. */
int32_t pock_launch_all(int entry, const pock_launch *launches, uint32_t count);

#endif
