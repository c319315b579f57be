/* A driver of OpenCL that computes nothing: it checks how it is called, and says so on standard error when a context goes.
 *
 * FAKE_OPENCL_FAIL names a function, the call that fails, and its error: "clFinish 2 -36". A read that fails has written
 * half of its bytes. FAKE_OPENCL_COPIES: no buffer in the memory of the host. Any number of threads may call it.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ARGUMENTS = 128, READ_WRITE = 1, READ_ONLY = 4, USE_HOST_POINTER = 8, COPY_HOST_POINTER = 32 };
enum { DEVICE = 1, CONTEXT, QUEUE, BUFFER, PROGRAM, KERNEL };
enum { INVALID_VALUE = -30, WRONG_HANDLE = -34, WRONG_HOST_POINTER = -37, WRONG_ARGUMENTS = -52, WRONG_GROUP = -54 };

typedef struct thing {
  int kind;
  size_t bytes; /* of a buffer */
  unsigned char *memory;
  int owned, arguments;
  struct thing *buffers[MOST_ARGUMENTS]; /* of a kernel */
  uint64_t starts[MOST_ARGUMENTS];
} thing;

static thing the_device = {.kind = DEVICE};
static atomic_int launches, live, calls;

static int32_t fails(const char *name) {
  const char *wish = getenv("FAKE_OPENCL_FAIL");
  size_t length = strlen(name);
  if (!wish || strncmp(wish, name, length) || wish[length] != ' ') return 0;
  char *code;
  long number = strtol(wish + length, &code, 10);
  return ++calls == number ? (int32_t)strtol(code, NULL, 10) : 0;
}

static int is(const thing *it, int kind) { return it && it->kind == kind; }

static thing *made(const char *name, int kind, int32_t *code) {
  *code = fails(name);
  if (*code) return NULL;
  thing *it = calloc(1, sizeof *it);
  it->kind = kind;
  live++;
  return it;
}

static int32_t gone(thing *it, int kind) {
  if (!is(it, kind)) return WRONG_HANDLE;
  if (it->owned) free(it->memory);
  it->kind = 0;
  free(it);
  live--;
  if (kind == CONTEXT) fprintf(stderr, "fake: %d launches, %d left\n", launches, live);
  return 0;
}

int32_t clGetPlatformIDs(uint32_t most, thing **platforms, uint32_t *count) {
  if (most) platforms[0] = &the_device;
  return *count = 1, fails("clGetPlatformIDs");
}
int32_t clGetDeviceIDs(thing *platform, uint64_t kind, uint32_t most, thing **devices, uint32_t *count) {
  const char *wish = getenv("FAKE_OPENCL_FAIL");
  if (kind == 4 || (wish && !strcmp(wish, "no device"))) return -1; /* no GPU */
  if (most) devices[0] = platform;
  return *count = 1, 0;
}
int32_t clGetDeviceInfo(thing *device, uint32_t what, size_t bytes, void *value, size_t *used) {
  (void)used;
  return snprintf(value, bytes, "fake %u", what) < 0 || !is(device, DEVICE);
}

thing *clCreateContext(const intptr_t *wishes, uint32_t count, thing *const *devices, void *hear, void *with, int32_t *code) {
  if (wishes || hear || with || count != 1 || !is(devices[0], DEVICE)) return *code = INVALID_VALUE, NULL;
  return made("clCreateContext", CONTEXT, code);
}
thing *clCreateCommandQueue(thing *context, thing *device, uint64_t wishes, int32_t *code) {
  if (!is(context, CONTEXT) || !is(device, DEVICE) || wishes) return *code = INVALID_VALUE, NULL;
  return made("clCreateCommandQueue", QUEUE, code);
}
thing *clCreateBuffer(thing *context, uint64_t flags, size_t bytes, void *memory, int32_t *code) {
  int uses = (flags & USE_HOST_POINTER) != 0, copies = (flags & COPY_HOST_POINTER) != 0;
  int how = (int)(flags & ~(uint64_t)(USE_HOST_POINTER | COPY_HOST_POINTER));
  if (!is(context, CONTEXT) || !bytes || (how != READ_WRITE && how != READ_ONLY)) return *code = INVALID_VALUE, NULL;
  if ((uses || copies) != (memory != NULL) || (uses && getenv("FAKE_OPENCL_COPIES")))
    return *code = WRONG_HOST_POINTER, NULL;
  thing *it = made("clCreateBuffer", BUFFER, code);
  if (!it) return NULL;
  it->bytes = bytes;
  it->owned = !uses;
  it->memory = uses ? memory : calloc(bytes, 1);
  if (copies) memcpy(it->memory, memory, bytes);
  return it;
}
thing *clCreateProgramWithSource(thing *context, uint32_t count, const char *const *texts, const size_t *lengths,
                                 int32_t *code) {
  if (!is(context, CONTEXT) || lengths) return *code = INVALID_VALUE, NULL;
  for (uint32_t i = 0; i < count; i++)
    if (!strstr(texts[i], "__kernel")) return *code = INVALID_VALUE, NULL;
  return made("clCreateProgramWithSource", PROGRAM, code);
}
int32_t clBuildProgram(thing *program, uint32_t count, thing *const *devices, const char *options, void *hear, void *with) {
  if (!is(program, PROGRAM) || count != 1 || !is(devices[0], DEVICE) || *options || hear || with) return INVALID_VALUE;
  return fails("clBuildProgram");
}
int32_t clGetProgramBuildInfo(thing *program, thing *device, uint32_t what, size_t bytes, void *value, size_t *used) {
  (void)what, (void)used;
  return snprintf(value, bytes, "line 1:\nso it is") < 0 || !is(program, PROGRAM) || !is(device, DEVICE);
}
thing *clCreateKernel(thing *program, const char *name, int32_t *code) {
  if (!is(program, PROGRAM) || strncmp(name, "pock_kernel_", 12)) return *code = INVALID_VALUE, NULL;
  return made("clCreateKernel", KERNEL, code);
}

int32_t clSetKernelArg(thing *kernel, uint32_t number, size_t bytes, const void *value) {
  uint32_t row = number / 2;
  if (!is(kernel, KERNEL) || row >= MOST_ARGUMENTS || bytes != 8) return WRONG_ARGUMENTS;
  memcpy(number % 2 ? (void *)&kernel->starts[row] : (void *)&kernel->buffers[row], value, bytes);
  if (kernel->arguments < (int)row + 1) kernel->arguments = (int)row + 1;
  return fails("clSetKernelArg");
}
int32_t clEnqueueNDRangeKernel(thing *queue, thing *kernel, uint32_t axes, const size_t *offset, const size_t *all,
                               const size_t *group, uint32_t waits, const void *wait, void *event) {
  if (!is(queue, QUEUE) || !is(kernel, KERNEL) || axes != 3 || offset || waits || wait || event) return INVALID_VALUE;
  for (int i = 0; i < kernel->arguments; i++)
    if (!is(kernel->buffers[i], BUFFER) || kernel->starts[i] >= kernel->buffers[i]->bytes) return WRONG_ARGUMENTS;
  size_t threads = group[0] * group[1] * group[2];
  for (int i = 0; i < 3; i++)
    if (!all[i] || !group[i] || all[i] % group[i] || threads > 1024) return WRONG_GROUP;
  launches++;
  return fails("clEnqueueNDRangeKernel");
}
static int outside(const thing *queue, const thing *buffer, size_t at, size_t bytes) {
  return !is(queue, QUEUE) || !is(buffer, BUFFER) || !bytes || at + bytes > buffer->bytes;
}
int32_t clEnqueueWriteBuffer(thing *queue, thing *buffer, uint32_t blocks, size_t at, size_t bytes, const void *from,
                             uint32_t waits, const void *wait, void *event) {
  if (outside(queue, buffer, at, bytes) || blocks || waits || wait || event) return INVALID_VALUE;
  int32_t code = fails("clEnqueueWriteBuffer");
  if (!code) memmove(buffer->memory + at, from, bytes);
  return code;
}
int32_t clEnqueueReadBuffer(thing *queue, thing *buffer, uint32_t blocks, size_t at, size_t bytes, void *to,
                            uint32_t waits, const void *wait, void *event) {
  if (outside(queue, buffer, at, bytes) || blocks != 1 || waits || wait || event) return INVALID_VALUE;
  int32_t code = fails("clEnqueueReadBuffer");
  memmove(to, buffer->memory + at, code ? bytes / 2 : bytes);
  return code;
}
int32_t clFinish(thing *queue) { return is(queue, QUEUE) ? fails("clFinish") : WRONG_HANDLE; }

int32_t clReleaseKernel(thing *it) { return gone(it, KERNEL); }
int32_t clReleaseProgram(thing *it) { return gone(it, PROGRAM); }
int32_t clReleaseMemObject(thing *it) { return gone(it, BUFFER); }
int32_t clReleaseCommandQueue(thing *it) { return gone(it, QUEUE); }
int32_t clReleaseContext(thing *it) { return gone(it, CONTEXT); }
