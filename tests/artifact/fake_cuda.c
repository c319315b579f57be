/* A driver of CUDA that computes nothing: it checks how it is called, and says so on standard error when it is done.
 *
 * Memory of the device is memory of the process, and an address outside of what was given out is an error. It fails when
 * FAKE_CUDA_FAIL names the function, at the call whose number follows: "cuLaunchKernel 3".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 8 };
static struct {
  uint64_t start, bytes;
} blocks[BLOCKS];
static int launches, graph_launches, captures, depth, capturing, live;
static int handle; /* what every handle points to */

static int fails(const char *name) {
  static int calls;
  const char *wish = getenv("FAKE_CUDA_FAIL");
  size_t length = strlen(name);
  if (!wish || strncmp(wish, name, length) || wish[length] != ' ') return 0;
  return ++calls == atoi(wish + length) ? 999 : 0;
}

static int inside(uint64_t address, uint64_t bytes) {
  for (int i = 0; i < BLOCKS; i++)
    if (address >= blocks[i].start && address + bytes <= blocks[i].start + blocks[i].bytes) return 1;
  return 0;
}

int cuInit(unsigned flags) { return flags ? 1 : fails("cuInit"); }
int cuDeviceGet(int32_t *device, int number) { return *device = number, fails("cuDeviceGet"); }
int cuDeviceGetName(char *name, int bytes, int32_t device) { return snprintf(name, (size_t)bytes, "fake %d", device), 0; }
int cuDeviceGetAttribute(int *value, int attribute, int32_t device) {
  const char *capability = getenv("FAKE_CUDA_CAPABILITY");
  int number = capability ? atoi(capability) : 53;
  *value = attribute == 75 ? number / 10 : number % 10;
  return device;
}
int cuDevicePrimaryCtxRetain(void **context, int32_t device) { return live++, *context = &handle, device; }
int cuDevicePrimaryCtxRelease(int32_t device) {
  live--;
  fprintf(stderr, "fake: %d launches, %d captures, %d graph launches, %d left, depth %d\n", launches, captures,
          graph_launches, live, depth);
  return device;
}
int cuCtxPushCurrent_v2(void *context) { return depth++, context != &handle; }
int cuCtxPopCurrent_v2(void **context) { return depth--, *context = &handle, 0; }
int cuStreamCreate(void **stream, unsigned flags) { return live++, *stream = &handle, flags != 1; }
int cuStreamSynchronize(void *stream) { return stream != &handle ? 1 : fails("cuStreamSynchronize"); }
int cuStreamDestroy_v2(void *stream) { return live--, stream != &handle; }
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  int code = fails("cuMemAlloc_v2");
  for (int i = 0; i < BLOCKS && !code; i++)
    if (!blocks[i].start) {
      blocks[i].start = *address = (uint64_t)(uintptr_t)calloc(bytes, 1);
      blocks[i].bytes = bytes;
      return live++, 0;
    }
  return 2;
}
int cuMemFree_v2(uint64_t address) {
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].start == address) {
      free((void *)(uintptr_t)address);
      blocks[i].start = blocks[i].bytes = 0;
      return live--, 0;
    }
  return 1;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  if (!inside(to, bytes) || stream != &handle) return 1;
  return memcpy((void *)(uintptr_t)to, from, bytes), fails("cuMemcpyHtoDAsync_v2");
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  if (!inside(from, bytes) || stream != &handle) return 1;
  return memcpy(to, (void *)(uintptr_t)from, bytes), 0;
}
int cuModuleLoadData(void **module, const void *image) {
  return live++, *module = &handle, memcmp(image, "\177ELF", 4) != 0; /* a cubin is one */
}
int cuModuleUnload(void *module) { return live--, module != &handle; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  return *function = &handle, module != &handle || strncmp(name, "pock_kernel_", 12);
}
int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned x, unsigned y, unsigned z,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  if (kernel != &handle || stream != &handle || shared || extra || !depth) return 1;
  if (!(gx * gy * gz) || !(x * y * z) || x * y * z > 1024) return 1;
  uint64_t first;
  memcpy(&first, arguments[0], sizeof first);
  if (!inside(first, 1)) return 700;
  return launches++, fails("cuLaunchKernel");
}
int cuGetErrorName(int32_t code, const char **name) {
  return *name = code == 999 ? "CUDA_ERROR_UNKNOWN" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE", 0;
}

#ifndef WITHOUT_GRAPHS
int cuStreamBeginCapture_v2(void *stream, int mode) { return capturing++, stream != &handle || mode != 1; }
int cuStreamEndCapture(void *stream, void **graph) { return capturing--, live++, *graph = &handle, stream != &handle; }
int cuGraphInstantiateWithFlags(void **graph, void *from, uint64_t flags) {
  return live++, captures++, *graph = &handle, from != &handle || flags;
}
int cuGraphLaunch(void *graph, void *stream) {
  return graph_launches++, graph != &handle || stream != &handle ? 1 : fails("cuGraphLaunch");
}
int cuGraphExecDestroy(void *graph) { return live--, graph != &handle; }
int cuGraphDestroy(void *graph) { return live--, graph != &handle; }
#endif
