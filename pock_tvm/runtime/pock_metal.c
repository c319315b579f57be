/* Run the kernels through Metal, by calls of the Objective-C runtime: this file is C, and needs no framework to be built.
 *
 * One command buffer per entry point, in which each launch waits for the ones before it. Device and processor share their
 * memory, but the regions of the caller need not start at a page, as Metal wants: each has a buffer of the device beside
 * it. The state of the caller changes only after a step is through.
 */
#include "pock_internal.h"

#include <dlfcn.h>
#include <string.h>

#include "pock_launch.h"

#ifndef POCK_METAL
#define POCK_METAL "/System/Library/Frameworks/Metal.framework/Metal"
#define POCK_OBJECTIVE_C "/usr/lib/libobjc.A.dylib"
#endif

typedef void *object; /* of Objective-C; a selector or a class too */

typedef struct {
  unsigned long width, height, depth;
} metal_size;

enum { COMPLETED = 4 }; /* of MTLCommandBufferStatus */

typedef struct {
  void *metal, *objective_c;
  void (*send)(void); /* objc_msgSend: called by the type of the method, see SEND */
  object (*selector)(const char *);
  object (*class)(const char *);
  object (*push_pool)(void);
  void (*pop_pool)(object);
  object (*default_device)(void);
  object device, queue, library;
  object regions[3];   /* NULL where a region is empty */
  object pipelines[]; /* one per row of pock_kernels */
} driver;

/* result = [receiver name: ...]; `types` are those of the arguments behind receiver and selector. */
#define ASK(result, receiver, name) ((result(*)(object, object))d->send)(receiver, d->selector(name))
#define UNPACK(...) __VA_ARGS__
#define SEND(result, receiver, name, types, ...) \
  ((result(*)(object, object, UNPACK types))d->send)(receiver, d->selector(name), __VA_ARGS__)

static size_t driver_bytes(void) { return sizeof(driver) + pock_kernel_count * sizeof(object); }

static object text_of(driver *d, const char *text) {
  return SEND(object, d->class("NSString"), "stringWithUTF8String:", (const char *), text);
}

/* Say what an NSError says; it may be none. */
static int failed(pock_session *session, driver *d, const char *doing, object error) {
  object said = error ? ASK(object, error, "localizedDescription") : NULL;
  const char *text = said ? ASK(const char *, said, "UTF8String") : NULL;
  char line[256];
  strncpy(line, text ? text : "no reason given", sizeof line - 1);
  line[sizeof line - 1] = 0;
  for (char *c = line; *c; c++)
    if (*c == '\n') *c = ' ';
  return pock_fail(session, POCK_ERROR_DEVICE, "Metal cannot %s: %s", doing, line);
}

/* ---- start ---- */

static int open_libraries(pock_session *session, driver *d) {
  d->metal = dlopen(POCK_METAL, RTLD_NOW);
  d->objective_c = d->metal ? dlopen(POCK_OBJECTIVE_C, RTLD_NOW) : NULL;
  if (!d->objective_c)
    return pock_fail(session, POCK_ERROR_DEVICE, "Metal is not installed, and the kernels of this artifact run through it");
  const struct {
    void *library, *to;
    const char *name;
  } functions[] = {{d->objective_c, &d->send, "objc_msgSend"},
                   {d->objective_c, &d->selector, "sel_registerName"},
                   {d->objective_c, &d->class, "objc_getClass"},
                   {d->objective_c, &d->push_pool, "objc_autoreleasePoolPush"},
                   {d->objective_c, &d->pop_pool, "objc_autoreleasePoolPop"},
                   {d->metal, &d->default_device, "MTLCreateSystemDefaultDevice"}};
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *found = dlsym(functions[i].library, functions[i].name);
    if (!found) return pock_fail(session, POCK_ERROR_DEVICE, "Metal lacks %s", functions[i].name);
    memcpy(functions[i].to, &found, sizeof found);
  }
  return POCK_OK;
}

static int make_regions(pock_session *session, driver *d) {
  const uint64_t bytes[3] = {pock_artifact.frozen_bytes, pock_artifact.state_bytes, pock_artifact.arena_bytes};
  for (int r = 0; r < 3; r++) {
    if (!bytes[r]) continue;
    d->regions[r] = SEND(object, d->device, "newBufferWithLength:options:", (unsigned long, unsigned long),
                         (unsigned long)bytes[r], 0ul); /* shared with the processor */
    if (!d->regions[r]) return failed(session, d, "take the memory that it needs", NULL);
  }
  if (bytes[POCK_FROZEN])
    memcpy(ASK(void *, d->regions[POCK_FROZEN], "contents"), session->frozen, bytes[POCK_FROZEN]);
  return POCK_OK;
}

static int build_kernels(pock_session *session, driver *d) {
  object error = NULL;
  object options = ASK(object, ASK(object, d->class("MTLCompileOptions"), "alloc"), "init");
  SEND(void, options, "setFastMathEnabled:", (signed char), 0);
  d->library = SEND(object, d->device, "newLibraryWithSource:options:error:", (object, object, object *),
                    text_of(d, pock_sources[0]), options, &error);
  ASK(void, options, "release");
  if (!d->library) return failed(session, d, "build the kernels", error);
  for (uint32_t i = 0; i < pock_kernel_count; i++) {
    object function = SEND(object, d->library, "newFunctionWithName:", (object), text_of(d, pock_kernels[i].name));
    if (!function) return failed(session, d, "find a kernel", NULL);
    d->pipelines[i] = SEND(object, d->device, "newComputePipelineStateWithFunction:error:", (object, object *), function, &error);
    ASK(void, function, "release");
    if (!d->pipelines[i]) return failed(session, d, "make a kernel", error);
  }
  return POCK_OK;
}

static int start(pock_session *session) {
  driver *d = (driver *)(session + 1);
  memset(d, 0, driver_bytes());
  session->device = d;
  int code = open_libraries(session, d);
  if (code) return code;
  object pool = d->push_pool();
  d->device = d->default_device();
  if (d->device) d->queue = ASK(object, d->device, "newCommandQueue");
  code = d->queue ? make_regions(session, d) : failed(session, d, "find a device", NULL);
  if (!code) code = build_kernels(session, d);
  if (!code)
    pock_say(session, POCK_LOG_INFO, "kernels run on %s", ASK(const char *, ASK(object, d->device, "name"), "UTF8String"));
  d->pop_pool(pool);
  return code;
}

static void stop(pock_session *session) {
  driver *d = session->device;
  session->device = NULL;
  if (!d || !d->default_device) return;
  for (uint32_t i = 0; i < pock_kernel_count; i++)
    if (d->pipelines[i]) ASK(void, d->pipelines[i], "release");
  for (int r = 0; r < 3; r++)
    if (d->regions[r]) ASK(void, d->regions[r], "release");
  if (d->library) ASK(void, d->library, "release");
  if (d->queue) ASK(void, d->queue, "release");
  if (d->device) ASK(void, d->device, "release");
}

const pock_device pock_device_driver = {driver_bytes, start, stop};

/* ---- an entry point ---- */

/* Copy the state and the inputs to the device, or the state and the outputs from it. */
static void copy(pock_session *session, driver *d, int entry, int back) {
  unsigned char *arena = ASK(void *, d->regions[POCK_ARENA], "contents");
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region != POCK_ARENA) continue;
    if (!back && (row->read_by >> entry & 1)) memcpy(arena + row->offset, session->arena + row->offset, row->bytes);
    if (back && row->role == POCK_OUTPUT) memcpy(session->arena + row->offset, arena + row->offset, row->bytes);
  }
  if (!d->regions[POCK_STATE]) return;
  void *state = ASK(void *, d->regions[POCK_STATE], "contents");
  if (!back) memcpy(state, session->state, pock_artifact.state_bytes);
  if (back && (entry == POCK_TRAIN_STEP || entry == POCK_ACCUMULATE))
    memcpy(session->state, state, pock_artifact.state_bytes);
}

static void launch_one(driver *d, object encoder, const pock_launch *launch) {
  const pock_device_kernel *kernel = &pock_kernels[launch->kernel];
  SEND(void, encoder, "setComputePipelineState:", (object), d->pipelines[launch->kernel]);
  for (uint32_t i = 0; i < kernel->arguments; i++) {
    const pock_argument *argument = &pock_arguments[launch->first + i];
    SEND(void, encoder, "setBuffer:offset:atIndex:", (object, unsigned long, unsigned long),
         d->regions[argument->region], (unsigned long)argument->start, (unsigned long)i);
  }
  const metal_size groups = {kernel->groups[0], kernel->groups[1], kernel->groups[2]};
  const metal_size threads = {kernel->threads[0], kernel->threads[1], kernel->threads[2]};
  SEND(void, encoder, "dispatchThreadgroups:threadsPerThreadgroup:", (metal_size, metal_size), groups, threads);
}

int32_t pock_launch_all(int entry, const pock_launch *launches, uint32_t count) {
  if (!pock_current || !pock_current->session->device) return -1;
  pock_session *session = pock_current->session;
  driver *d = session->device;
  object pool = d->push_pool();
  int code = POCK_OK;
  copy(session, d, entry, 0);
  object commands = ASK(object, d->queue, "commandBuffer");
  object encoder = commands ? ASK(object, commands, "computeCommandEncoder") : NULL;
  if (encoder) {
    for (uint32_t i = 0; i < count; i++) launch_one(d, encoder, &launches[i]);
    ASK(void, encoder, "endEncoding");
    ASK(void, commands, "commit");
    ASK(void, commands, "waitUntilCompleted");
    if (ASK(unsigned long, commands, "status") != COMPLETED)
      code = failed(session, d, "finish a step; the state is as it was before", ASK(object, commands, "error"));
  } else {
    code = failed(session, d, "make a command buffer", NULL);
  }
  if (!code) copy(session, d, entry, 1);
  d->pop_pool(pool);
  return code;
}
