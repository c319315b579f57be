/* Metal and the runtime of Objective-C, as far as pock_metal.c uses them, on x86-64 under Linux.
 *
 * Kernels are functions of the library that FAKE_METAL_KERNELS names, compiled from the same source by a C++ compiler.
 * The threads of a group are coroutines: each runs up to a barrier, then the next one does. FAKE_METAL_FAIL names a method
 * that fails. What is left when the device is released is said on standard error.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { MOST_THREADS = 1024, MOST_ARGUMENTS = 24, STACK_BYTES = 1 << 16 };

typedef struct {
  unsigned long width, height, depth;
} size3;

typedef struct {
  void *memory; /* of a buffer; the function of a pipeline */
  unsigned long bytes;
} thing;

static int live, dispatches, pools;
static thing any; /* stands for all that has nothing of its own */
static void *kernels;
static void *function;
static uintptr_t arguments[MOST_ARGUMENTS];
static unsigned long argument_count;

/* ---- a group of threads ---- */

static ucontext_t scheduler, contexts[MOST_THREADS];
static char *stacks;
static int finished[MOST_THREADS];
static unsigned long current;

static void wait_for_others(void) { swapcontext(&contexts[current], &scheduler); }

static void run_thread(void) {
  uintptr_t a[MOST_ARGUMENTS];
  memcpy(a, arguments, sizeof a);
  a[argument_count + 1] = current; /* behind the number of the group */
  typedef void body(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
                    uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);
  ((body *)function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]);
  finished[current] = 1;
}

static void run_group(unsigned long count) {
  if (!stacks) stacks = malloc((size_t)MOST_THREADS * STACK_BYTES);
  for (unsigned long t = 0; t < count; t++) {
    getcontext(&contexts[t]);
    contexts[t].uc_stack.ss_sp = stacks + t * STACK_BYTES;
    contexts[t].uc_stack.ss_size = STACK_BYTES;
    contexts[t].uc_link = &scheduler;
    makecontext(&contexts[t], run_thread, 0);
    finished[t] = 0;
  }
  for (unsigned long left = count; left;)
    for (unsigned long t = 0; t < count; t++) {
      if (finished[t]) continue;
      current = t;
      swapcontext(&scheduler, &contexts[t]);
      left -= (unsigned long)finished[t];
    }
}

static void dispatch(size3 groups, size3 threads) {
  if (threads.width > MOST_THREADS || argument_count + 2 > 16) abort();
  for (unsigned long g = 0; g < groups.width; g++) {
    arguments[argument_count] = g;
    run_group(threads.width);
  }
  argument_count = 0;
  dispatches++;
}

/* ---- Objective-C ---- */

void *sel_registerName(const char *name) { return (void *)(uintptr_t)name; }
void *objc_getClass(const char *name) { return (void *)(uintptr_t)name; }
void *objc_autoreleasePoolPush(void) { return pools++, &any; }
void objc_autoreleasePoolPop(void *pool) { pools -= pool == &any; }
void *MTLCreateSystemDefaultDevice(void) { return getenv("FAKE_METAL_NONE") ? NULL : (live++, &any); }

static thing *made(void *memory, unsigned long bytes) {
  thing *it = malloc(sizeof *it);
  it->memory = memory;
  it->bytes = bytes;
  live++;
  return it;
}

static void release(thing *it) {
  live--;
  if (it != &any) {
    if (it->bytes) free(it->memory);
    free(it);
  }
  if (!live) fprintf(stderr, "fake: %d dispatches, nothing left, %d pools\n", dispatches, pools);
}

static void *load_kernels(void) {
  kernels = dlopen(getenv("FAKE_METAL_KERNELS"), RTLD_NOW);
  if (!kernels) return NULL;
  void (**barrier)(void) = dlsym(kernels, "fake_metal_barrier");
  *barrier = wait_for_others;
  return live++, &any;
}

void *objc_msgSend(void *self, const char *method, ...) {
  const char *wish = getenv("FAKE_METAL_FAIL");
  int fails = wish && !strcmp(wish, method);
  void *result = &any;
  va_list words;
  va_start(words, method);
#define IS(name) (!strcmp(method, name))
  if (IS("release")) {
    release(self);
  } else if (IS("alloc") || IS("newCommandQueue")) {
    live++;
  } else if (IS("stringWithUTF8String:")) {
    result = va_arg(words, void *);
  } else if (IS("localizedDescription") || IS("name")) {
    result = "the fake\nsays so";
  } else if (IS("UTF8String")) {
    result = self;
  } else if (IS("newBufferWithLength:options:")) {
    unsigned long bytes = va_arg(words, unsigned long);
    result = fails ? NULL : made(calloc(bytes, 1), bytes);
  } else if (IS("contents")) {
    result = ((thing *)self)->memory;
  } else if (IS("newLibraryWithSource:options:error:")) {
    (void)va_arg(words, void *), (void)va_arg(words, void *);
    *va_arg(words, void **) = &any;
    result = fails ? NULL : load_kernels();
  } else if (IS("newFunctionWithName:")) {
    void *found = dlsym(kernels, va_arg(words, const char *));
    result = found ? made(found, 0) : NULL;
  } else if (IS("newComputePipelineStateWithFunction:error:")) {
    result = made(((thing *)va_arg(words, void *))->memory, 0);
  } else if (IS("setComputePipelineState:")) {
    function = ((thing *)va_arg(words, void *))->memory;
  } else if (IS("setBuffer:offset:atIndex:")) {
    thing *buffer = va_arg(words, void *);
    unsigned long offset = va_arg(words, unsigned long), index = va_arg(words, unsigned long);
    if (offset >= buffer->bytes || index != argument_count) abort();
    arguments[argument_count++] = (uintptr_t)buffer->memory + offset;
  } else if (IS("dispatchThreadgroups:threadsPerThreadgroup:")) {
    size3 groups = va_arg(words, size3);
    dispatch(groups, va_arg(words, size3));
  } else if (IS("status")) {
    result = (void *)(uintptr_t)(fails ? 5 : 4);
  }
  va_end(words);
  return result;
}
