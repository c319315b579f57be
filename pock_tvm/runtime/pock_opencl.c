/* Run the kernels through OpenCL. The driver's library is opened when a session starts: without one, that fails and says
 * so, and nothing else does.
 *
 * One queue in order, one buffer per region. The arena and the frozen weights lie in the caller's memory where the
 * driver allows it, so that a device that shares it with the processor copies nothing. The state has a copy on the device:
 * the caller's changes only after a step is through, and a device that is lost half way leaves it whole, unless that
 * happens while the state comes back: then the message says so.
 */
#include "pock_internal.h"

#include <dlfcn.h>
#include <string.h>

#include "pock_launch.h"

/* ---- the part of OpenCL 1.2 that is used, as its specification has it ---- */

#define ALL_DEVICES 0xFFFFFFFFu

typedef struct opencl_object *opencl; /* any of its handles */

enum {
  DEVICE_NOT_FOUND = -1,
  GPU_DEVICES = 4,
  DEVICE_NAME = 0x102B,
  BUILD_LOG = 0x1183,
  READ_WRITE = 1,
  READ_ONLY = 4,
  USE_HOST_POINTER = 8,
  COPY_HOST_POINTER = 32
};

#define OPENCL_FUNCTIONS(X)                                                                                             \
  X(clGetPlatformIDs, (uint32_t, opencl *, uint32_t *))                                                                 \
  X(clGetDeviceIDs, (opencl, uint64_t, uint32_t, opencl *, uint32_t *))                                                 \
  X(clGetDeviceInfo, (opencl, uint32_t, size_t, void *, size_t *))                                                      \
  X(clBuildProgram, (opencl, uint32_t, const opencl *, const char *, void *, void *))                                   \
  X(clGetProgramBuildInfo, (opencl, opencl, uint32_t, size_t, void *, size_t *))                                        \
  X(clSetKernelArg, (opencl, uint32_t, size_t, const void *))                                                           \
  X(clEnqueueNDRangeKernel, (opencl, opencl, uint32_t, const size_t *, const size_t *, const size_t *, uint32_t,        \
                             const opencl *, opencl *))                                                                 \
  X(clEnqueueWriteBuffer, (opencl, opencl, uint32_t, size_t, size_t, const void *, uint32_t, const opencl *, opencl *)) \
  X(clEnqueueReadBuffer, (opencl, opencl, uint32_t, size_t, size_t, void *, uint32_t, const opencl *, opencl *))        \
  X(clFinish, (opencl))                                                                                                 \
  X(clReleaseKernel, (opencl))                                                                                          \
  X(clReleaseProgram, (opencl))                                                                                         \
  X(clReleaseMemObject, (opencl))                                                                                       \
  X(clReleaseCommandQueue, (opencl))                                                                                    \
  X(clReleaseContext, (opencl))

#define OPENCL_MAKERS(X)                                                                     \
  X(clCreateContext, (const intptr_t *, uint32_t, const opencl *, void *, void *, int32_t *)) \
  X(clCreateCommandQueue, (opencl, opencl, uint64_t, int32_t *))                              \
  X(clCreateBuffer, (opencl, uint64_t, size_t, void *, int32_t *))                            \
  X(clCreateProgramWithSource, (opencl, uint32_t, const char *const *, const size_t *, int32_t *))  \
  X(clCreateKernel, (opencl, const char *, int32_t *))

typedef struct {
  void *library;
#define DECLARE(name, parameters) int32_t(*name) parameters;
  OPENCL_FUNCTIONS(DECLARE)
#undef DECLARE
#define DECLARE(name, parameters) opencl(*name) parameters;
  OPENCL_MAKERS(DECLARE)
#undef DECLARE
  opencl device, context, queue, program;
  opencl regions[3]; /* NULL where a region is empty */
  opencl kernels[]; /* one per row of pock_kernels */
} driver;

static size_t driver_bytes(void) { return sizeof(driver) + pock_kernel_count * sizeof(opencl); }

/* ---- errors ---- */

static const char *meaning(int32_t code) {
  switch (code) {
    case -1: return "no device found";
    case -2: return "device not available";
    case -4: return "no memory for a buffer";
    case -5: return "out of resources; the device may be lost";
    case -6: return "out of host memory";
    case -11: return "the program does not build";
    case -36: return "the queue is gone; the device may be lost";
    case -54: return "work-group larger than the device allows";
    case -55: return "work-group of a shape that the device does not allow";
    case -61: return "buffer larger than the device allows";
    case -1001: return "no platform: no driver is installed";
    default: return "see the error codes of cl.h";
  }
}

static int failed(pock_session *session, const char *doing, int32_t code) {
  return pock_fail(session, POCK_ERROR_DEVICE, "OpenCL cannot %s: error %d (%s)", doing, (int)code, meaning(code));
}

/* ---- start ---- */

static int open_library(pock_session *session, driver *d) {
  static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so"};
  for (size_t i = 0; i < sizeof names / sizeof *names && !d->library; i++) d->library = dlopen(names[i], RTLD_NOW);
  if (!d->library)
    return pock_fail(session, POCK_ERROR_DEVICE,
                     "libOpenCL.so.1 is not installed, and the kernels of this artifact run through it");
  const char *missing = NULL;
  void *found;
#define FIND(name, parameters)                           \
  found = dlsym(d->library, #name);                      \
  if (!found) missing = #name;                           \
  memcpy(&d->name, &found, sizeof found);
  OPENCL_FUNCTIONS(FIND)
  OPENCL_MAKERS(FIND)
#undef FIND
  return missing ? pock_fail(session, POCK_ERROR_DEVICE, "libOpenCL.so.1 lacks %s", missing) : POCK_OK;
}

/* The first GPU of any platform, else the first device. */
static int find_device(pock_session *session, driver *d) {
  opencl platforms[16];
  uint32_t count = 0;
  int32_t code = d->clGetPlatformIDs(16, platforms, &count);
  if (!code && !count) code = -1001;
  if (code) return failed(session, "find a platform", code);
  if (count > 16) count = 16;
  const uint64_t kinds[] = {GPU_DEVICES, ALL_DEVICES};
  for (int k = 0; k < 2; k++)
    for (uint32_t i = 0; i < count; i++) {
      uint32_t devices = 0;
      if (!d->clGetDeviceIDs(platforms[i], kinds[k], 1, &d->device, &devices) && devices) return POCK_OK;
    }
  return failed(session, "find a device", DEVICE_NOT_FOUND);
}

static opencl make_buffer(driver *d, uint64_t flags, void *memory, size_t bytes, int filled, int32_t *code) {
  *code = 0;
  if (!bytes) return NULL;
  opencl buffer = d->clCreateBuffer(d->context, flags | USE_HOST_POINTER, bytes, memory, code);
  if (!*code) return buffer; /* else the driver wants another alignment, or cannot share a mapped file */
  return d->clCreateBuffer(d->context, filled ? flags | COPY_HOST_POINTER : flags, bytes, filled ? memory : NULL, code);
}

static int make_buffers(pock_session *session, driver *d) {
  int32_t code = 0;
  d->regions[POCK_FROZEN] = make_buffer(d, READ_ONLY, session->frozen, pock_artifact.frozen_bytes, 1, &code);
  if (!code) d->regions[POCK_ARENA] = make_buffer(d, READ_WRITE, session->arena, pock_artifact.arena_bytes, 0, &code);
  if (!code && pock_artifact.state_bytes)
    d->regions[POCK_STATE] = d->clCreateBuffer(d->context, READ_WRITE, pock_artifact.state_bytes, NULL, &code);
  return code ? failed(session, "make a buffer", code) : POCK_OK;
}

static int build_program(pock_session *session, driver *d) {
  int32_t code = 0;
  d->program = d->clCreateProgramWithSource(d->context, pock_kernel_count, pock_sources, NULL, &code);
  if (code) return failed(session, "take the kernels", code);
  code = d->clBuildProgram(d->program, 1, &d->device, "", NULL, NULL);
  if (code) {
    char said[256] = "";
    (void)d->clGetProgramBuildInfo(d->program, d->device, BUILD_LOG, sizeof said - 1, said, NULL);
    for (char *c = said; *c; c++)
      if (*c == '\n') *c = ' ';
    return pock_fail(session, POCK_ERROR_DEVICE, "OpenCL cannot build the kernels: error %d %s", (int)code, said);
  }
  for (uint32_t i = 0; i < pock_kernel_count && !code; i++)
    d->kernels[i] = d->clCreateKernel(d->program, pock_kernels[i].name, &code);
  return code ? failed(session, "make a kernel", code) : POCK_OK;
}

static int start(pock_session *session) {
  driver *d = (driver *)(session + 1);
  memset(d, 0, driver_bytes());
  session->device = d;
  int code = open_library(session, d);
  if (!code) code = find_device(session, d);
  if (code) return code;
  int32_t refused = 0;
  d->context = d->clCreateContext(NULL, 1, &d->device, NULL, NULL, &refused);
  if (!refused) d->queue = d->clCreateCommandQueue(d->context, d->device, 0, &refused);
  if (refused) return failed(session, "use the device", refused);
  code = make_buffers(session, d);
  if (!code) code = build_program(session, d);
  if (code) return code;
  char name[128] = "";
  (void)d->clGetDeviceInfo(d->device, DEVICE_NAME, sizeof name - 1, name, NULL);
  pock_say(session, POCK_LOG_INFO, "kernels run on %s", name);
  return POCK_OK;
}

static void stop(pock_session *session) {
  driver *d = session->device;
  session->device = NULL;
  if (!d || !d->library) return;
  if (d->queue) (void)d->clFinish(d->queue); /* nothing may use the caller's memory any more */
  for (uint32_t i = 0; i < pock_kernel_count; i++)
    if (d->kernels[i]) (void)d->clReleaseKernel(d->kernels[i]);
  if (d->program) (void)d->clReleaseProgram(d->program);
  for (int r = 0; r < 3; r++)
    if (d->regions[r]) (void)d->clReleaseMemObject(d->regions[r]);
  if (d->queue) (void)d->clReleaseCommandQueue(d->queue);
  if (d->context) (void)d->clReleaseContext(d->context);
  /* The library stays: drivers leave threads and handlers behind that must not outlive their code. */
}

const pock_device pock_device_driver = {driver_bytes, start, stop};

/* ---- an entry point ---- */

static int32_t upload(pock_session *session, driver *d, int entry) {
  int32_t code = 0;
  if (d->regions[POCK_STATE])
    code = d->clEnqueueWriteBuffer(d->queue, d->regions[POCK_STATE], 0, 0, pock_artifact.state_bytes, session->state, 0,
                                   NULL, NULL);
  for (uint32_t i = 0; i < pock_artifact.tensor_count && !code; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region == POCK_ARENA && row->bytes && (row->read_by >> entry & 1))
      code = d->clEnqueueWriteBuffer(d->queue, d->regions[POCK_ARENA], 0, row->offset, row->bytes,
                                     session->arena + row->offset, 0, NULL, NULL);
  }
  return code;
}

static int32_t launch_one(driver *d, const pock_launch *launch) {
  const pock_device_kernel *kernel = &pock_kernels[launch->kernel];
  opencl handle = d->kernels[launch->kernel];
  int32_t code = 0;
  for (uint32_t i = 0; i < kernel->arguments && !code; i++) {
    const pock_argument *argument = &pock_arguments[launch->first + i];
    code = d->clSetKernelArg(handle, 2 * i, sizeof(opencl), &d->regions[argument->region]);
    if (!code) code = d->clSetKernelArg(handle, 2 * i + 1, sizeof argument->start, &argument->start);
  }
  size_t all[3], group[3];
  for (int axis = 0; axis < 3; axis++) {
    group[axis] = kernel->threads[axis];
    all[axis] = group[axis] * kernel->groups[axis];
  }
  return code ? code : d->clEnqueueNDRangeKernel(d->queue, handle, 3, NULL, all, group, 0, NULL, NULL);
}

static int32_t download(pock_session *session, driver *d) {
  int32_t code = d->clFinish(d->queue); /* what a kernel did wrong shows here, before anything of the caller's changes */
  for (uint32_t i = 0; i < pock_artifact.tensor_count && !code; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region == POCK_ARENA && row->bytes && row->role == POCK_OUTPUT)
      code = d->clEnqueueReadBuffer(d->queue, d->regions[POCK_ARENA], 1, row->offset, row->bytes,
                                    session->arena + row->offset, 0, NULL, NULL);
  }
  return code;
}

static int32_t download_state(pock_session *session, driver *d, int entry) {
  if (!d->regions[POCK_STATE] || (entry != POCK_TRAIN_STEP && entry != POCK_ACCUMULATE)) return 0;
  return d->clEnqueueReadBuffer(d->queue, d->regions[POCK_STATE], 1, 0, pock_artifact.state_bytes, session->state, 0, NULL,
                                NULL);
}

int32_t pock_launch_all(int entry, const pock_launch *launches, uint32_t count) {
  if (!pock_current || !pock_current->session->device) return -1;
  pock_session *session = pock_current->session;
  driver *d = session->device;
  int32_t code = upload(session, d, entry);
  if (code) return failed(session, "write the inputs", code);
  for (uint32_t i = 0; i < count; i++) {
    code = launch_one(d, &launches[i]);
    if (code)
      return pock_fail(session, POCK_ERROR_DEVICE, "OpenCL cannot launch %s: error %d (%s)",
                       pock_kernels[launches[i].kernel].name, (int)code, meaning(code));
  }
  code = download(session, d);
  if (code) return failed(session, "finish a step; the state is as it was before", code);
  code = download_state(session, d, entry);
  return code ? failed(session, "read the state back; load a checkpoint before going on", code) : POCK_OK;
}
