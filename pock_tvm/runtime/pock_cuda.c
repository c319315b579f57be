/* Run the kernels through CUDA's driver. Its library is opened when a session starts: without one, that fails and says
 * so, and nothing else does.
 *
 * One stream, one allocation per region on the device. The first run of an entry point is captured as a graph where the
 * driver has graphs; from then on it is one launch. The state of the caller changes only after a step is through: a
 * device that is lost half way leaves it whole, unless that happens while the state comes back: then the message says so.
 */
#include "pock_internal.h"

#include <dlfcn.h>
#include <string.h>

#include "pock_launch.h"

/* ---- the part of the driver API that is used, as its reference manual has it ---- */

typedef struct cuda_object *cuda; /* any of its handles */

enum {
  MAJOR = 75, /* of CUdevice_attribute: compute capability */
  MINOR = 76,
  NON_BLOCKING = 1,
  THREAD_LOCAL = 1, /* other threads may go on using the device during a capture */
  MOST_ARGUMENTS = 64
};

#define CUDA_FUNCTIONS(X)                                                                                              \
  X(cuInit, (unsigned))                                                                                                \
  X(cuDeviceGet, (int32_t *, int))                                                                                     \
  X(cuDeviceGetName, (char *, int, int32_t))                                                                           \
  X(cuDeviceGetAttribute, (int *, int, int32_t))                                                                       \
  X(cuDevicePrimaryCtxRetain, (cuda *, int32_t))                                                                       \
  X(cuDevicePrimaryCtxRelease, (int32_t))                                                                              \
  X(cuCtxPushCurrent_v2, (cuda))                                                                                       \
  X(cuCtxPopCurrent_v2, (cuda *))                                                                                      \
  X(cuStreamCreate, (cuda *, unsigned))                                                                                \
  X(cuStreamSynchronize, (cuda))                                                                                       \
  X(cuStreamDestroy_v2, (cuda))                                                                                        \
  X(cuMemAlloc_v2, (uint64_t *, size_t))                                                                               \
  X(cuMemFree_v2, (uint64_t))                                                                                          \
  X(cuMemcpyHtoDAsync_v2, (uint64_t, const void *, size_t, cuda))                                                      \
  X(cuMemcpyDtoHAsync_v2, (void *, uint64_t, size_t, cuda))                                                            \
  X(cuModuleLoadData, (cuda *, const void *))                                                                          \
  X(cuModuleUnload, (cuda))                                                                                            \
  X(cuModuleGetFunction, (cuda *, cuda, const char *))                                                                 \
  X(cuLaunchKernel, (cuda, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, cuda, void **, void **)) \
  X(cuGetErrorName, (int32_t, const char **))

#define GRAPH_FUNCTIONS(X)                                 \
  X(cuStreamBeginCapture_v2, (cuda, int))                  \
  X(cuStreamEndCapture, (cuda, cuda *))                    \
  X(cuGraphInstantiateWithFlags, (cuda *, cuda, uint64_t)) \
  X(cuGraphLaunch, (cuda, cuda))                           \
  X(cuGraphExecDestroy, (cuda))                            \
  X(cuGraphDestroy, (cuda))

typedef struct {
  void *library;
#define DECLARE(name, parameters) int32_t(*name) parameters;
  CUDA_FUNCTIONS(DECLARE)
  GRAPH_FUNCTIONS(DECLARE)
#undef DECLARE
  int32_t device;
  int has_graphs;
  cuda context, stream, module;
  uint64_t regions[3];        /* addresses on the device, 0 where a region is empty */
  cuda graphs[POCK_ENTRIES]; /* NULL until the first run */
  cuda kernels[];            /* one per row of pock_kernels */
} driver;

static size_t driver_bytes(void) { return sizeof(driver) + pock_kernel_count * sizeof(cuda); }

static int failed(pock_session *session, const driver *d, const char *doing, int32_t code) {
  const char *name = NULL;
  if (d->cuGetErrorName(code, &name) || !name) name = "unknown";
  return pock_fail(session, POCK_ERROR_DEVICE, "CUDA cannot %s: error %d (%s)", doing, (int)code, name);
}

/* ---- start ---- */

static int open_library(pock_session *session, driver *d) {
  d->library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!d->library)
    return pock_fail(session, POCK_ERROR_DEVICE,
                     "libcuda.so.1 is not installed, and the kernels of this artifact run through it");
  const char *missing = NULL;
  void *found;
#define FIND(name, parameters)            \
  found = dlsym(d->library, #name);       \
  if (!found) missing = #name;            \
  memcpy(&d->name, &found, sizeof found);
  GRAPH_FUNCTIONS(FIND)
  d->has_graphs = !missing;
  missing = NULL;
  CUDA_FUNCTIONS(FIND)
#undef FIND
  return missing ? pock_fail(session, POCK_ERROR_DEVICE, "libcuda.so.1 lacks %s", missing) : POCK_OK;
}

/* Code for one architecture runs on devices of the same major number, the same minor one or a higher. */
static int check_device(pock_session *session, driver *d) {
  int major = 0, minor = 0;
  int32_t code = d->cuInit(0);
  if (!code) code = d->cuDeviceGet(&d->device, 0);
  if (!code) code = d->cuDeviceGetAttribute(&major, MAJOR, d->device);
  if (!code) code = d->cuDeviceGetAttribute(&minor, MINOR, d->device);
  if (code) return failed(session, d, "find a device", code);
  if (major != pock_architecture / 10 || minor < pock_architecture % 10)
    return pock_fail(session, POCK_ERROR_MACHINE, "the kernels are compiled for compute capability %d.%d, the device has %d.%d",
                     pock_architecture / 10, pock_architecture % 10, major, minor);
  return POCK_OK;
}

static int32_t make_regions(pock_session *session, driver *d) {
  const uint64_t bytes[3] = {pock_artifact.frozen_bytes, pock_artifact.state_bytes, pock_artifact.arena_bytes};
  int32_t code = 0;
  for (int r = 0; r < 3 && !code; r++)
    if (bytes[r]) code = d->cuMemAlloc_v2(&d->regions[r], bytes[r]);
  if (!code && bytes[POCK_FROZEN])
    code = d->cuMemcpyHtoDAsync_v2(d->regions[POCK_FROZEN], session->frozen, bytes[POCK_FROZEN], d->stream);
  return code ? code : d->cuStreamSynchronize(d->stream);
}

static int32_t load_kernels(driver *d) {
  int32_t code = d->cuModuleLoadData(&d->module, pock_image);
  for (uint32_t i = 0; i < pock_kernel_count && !code; i++)
    code = d->cuModuleGetFunction(&d->kernels[i], d->module, pock_kernels[i].name);
  return code;
}

static int start(pock_session *session) {
  driver *d = (driver *)(session + 1);
  memset(d, 0, driver_bytes());
  session->device = d;
  int code = open_library(session, d);
  if (!code) code = check_device(session, d);
  if (code) return code;
  int32_t refused = d->cuDevicePrimaryCtxRetain(&d->context, d->device);
  if (!refused) refused = d->cuCtxPushCurrent_v2(d->context);
  if (refused) return failed(session, d, "use the device", refused);
  refused = d->cuStreamCreate(&d->stream, NON_BLOCKING);
  if (refused) {
    code = failed(session, d, "make a stream", refused);
  } else if ((refused = make_regions(session, d))) {
    code = failed(session, d, "take the memory that it needs", refused);
  } else if ((refused = load_kernels(d))) {
    code = failed(session, d, "load the kernels", refused);
  }
  char name[128] = "";
  if (!code) (void)d->cuDeviceGetName(name, sizeof name - 1, d->device);
  (void)d->cuCtxPopCurrent_v2(&(cuda){NULL});
  if (!code) pock_say(session, POCK_LOG_INFO, "kernels run on %s", name);
  return code;
}

static void stop(pock_session *session) {
  driver *d = session->device;
  session->device = NULL;
  if (!d || !d->context) return;
  (void)d->cuCtxPushCurrent_v2(d->context);
  if (d->stream) (void)d->cuStreamSynchronize(d->stream);
  for (int entry = 0; entry < POCK_ENTRIES; entry++)
    if (d->graphs[entry]) (void)d->cuGraphExecDestroy(d->graphs[entry]);
  if (d->module) (void)d->cuModuleUnload(d->module);
  for (int r = 0; r < 3; r++)
    if (d->regions[r]) (void)d->cuMemFree_v2(d->regions[r]);
  if (d->stream) (void)d->cuStreamDestroy_v2(d->stream);
  (void)d->cuCtxPopCurrent_v2(&(cuda){NULL});
  (void)d->cuDevicePrimaryCtxRelease(d->device);
  /* The library stays: the driver leaves threads and handlers behind that must not outlive its code. */
}

const pock_device pock_device_driver = {driver_bytes, start, stop};

/* ---- an entry point ---- */

static int32_t upload(pock_session *session, driver *d, int entry) {
  int32_t code = 0;
  if (d->regions[POCK_STATE])
    code = d->cuMemcpyHtoDAsync_v2(d->regions[POCK_STATE], session->state, pock_artifact.state_bytes, d->stream);
  for (uint32_t i = 0; i < pock_artifact.tensor_count && !code; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region == POCK_ARENA && row->bytes && (row->read_by >> entry & 1))
      code = d->cuMemcpyHtoDAsync_v2(d->regions[POCK_ARENA] + row->offset, session->arena + row->offset, row->bytes,
                                     d->stream);
  }
  return code;
}

static int32_t launch_one(driver *d, const pock_launch *launch) {
  const pock_device_kernel *kernel = &pock_kernels[launch->kernel];
  uint64_t addresses[MOST_ARGUMENTS];
  void *arguments[MOST_ARGUMENTS];
  if (kernel->arguments > MOST_ARGUMENTS) return 1; /* CUDA_ERROR_INVALID_VALUE; the compiler writes no such kernel */
  for (uint32_t i = 0; i < kernel->arguments; i++) {
    const pock_argument *argument = &pock_arguments[launch->first + i];
    addresses[i] = d->regions[argument->region] + argument->start;
    arguments[i] = &addresses[i];
  }
  const uint32_t *groups = kernel->groups, *threads = kernel->threads;
  return d->cuLaunchKernel(d->kernels[launch->kernel], groups[0], groups[1], groups[2], threads[0], threads[1],
                           threads[2], 0, d->stream, arguments, NULL);
}

static int32_t launch_each(driver *d, const pock_launch *launches, uint32_t count) {
  int32_t code = 0;
  for (uint32_t i = 0; i < count && !code; i++) code = launch_one(d, &launches[i]);
  return code;
}

/* Make the graph of an entry point; it stays NULL where the driver does not want to. */
static void capture(driver *d, int entry, const pock_launch *launches, uint32_t count) {
  cuda graph = NULL;
  if (d->cuStreamBeginCapture_v2(d->stream, THREAD_LOCAL)) return;
  int32_t code = launch_each(d, launches, count);
  if (d->cuStreamEndCapture(d->stream, &graph) || !graph) return;
  if (!code && d->cuGraphInstantiateWithFlags(&d->graphs[entry], graph, 0)) d->graphs[entry] = NULL;
  (void)d->cuGraphDestroy(graph);
}

static int32_t launch_entry(driver *d, int entry, const pock_launch *launches, uint32_t count) {
  if (d->has_graphs && !d->graphs[entry]) capture(d, entry, launches, count);
  if (d->graphs[entry]) return d->cuGraphLaunch(d->graphs[entry], d->stream);
  d->has_graphs = 0;
  return launch_each(d, launches, count);
}

static int32_t download(pock_session *session, driver *d) {
  int32_t code = d->cuStreamSynchronize(d->stream); /* what a kernel did wrong shows here, before anything changes */
  for (uint32_t i = 0; i < pock_artifact.tensor_count && !code; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region == POCK_ARENA && row->bytes && row->role == POCK_OUTPUT)
      code = d->cuMemcpyDtoHAsync_v2(session->arena + row->offset, d->regions[POCK_ARENA] + row->offset, row->bytes,
                                     d->stream);
  }
  return code ? code : d->cuStreamSynchronize(d->stream);
}

static int32_t download_state(pock_session *session, driver *d, int entry) {
  if (!d->regions[POCK_STATE] || (entry != POCK_TRAIN_STEP && entry != POCK_ACCUMULATE)) return 0;
  int32_t code = d->cuMemcpyDtoHAsync_v2(session->state, d->regions[POCK_STATE], pock_artifact.state_bytes, d->stream);
  return code ? code : d->cuStreamSynchronize(d->stream);
}

int32_t pock_launch_all(int entry, const pock_launch *launches, uint32_t count) {
  if (!pock_current || !pock_current->session->device) return -1;
  pock_session *session = pock_current->session;
  driver *d = session->device;
  int32_t code = d->cuCtxPushCurrent_v2(d->context);
  if (code) return failed(session, d, "use the device", code);
  const char *doing = "write the inputs";
  code = upload(session, d, entry);
  if (!code) {
    doing = "launch a step; the state is as it was before";
    code = launch_entry(d, entry, launches, count);
  }
  if (!code) {
    doing = "finish a step; the state is as it was before";
    code = download(session, d);
  }
  if (!code) {
    doing = "read the state back; load a checkpoint before going on";
    code = download_state(session, d, entry);
  }
  (void)d->cuCtxPopCurrent_v2(&(cuda){NULL});
  return code ? failed(session, d, doing, code) : POCK_OK;
}
