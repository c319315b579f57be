/* A machine without an operating system: one thread, no files, no heap.
 *
 * It takes the place of pock_machine.c, pock_cores.c, pock_threads.c and pock_files.c, and wants memcpy, memset, memcmp,
 * strcmp and strlen of the C library; kernels want functions of libm where a model has them (float64, sin, pow).
 */
#include "pock_internal.h"
#include "pock_sizes.h"

_Static_assert(sizeof(pock_session) <= POCK_SESSION_BYTES, "pock_sizes.h promises less than a session takes");

pock_worker *pock_current;

/* ---- the machine ---- */

#if defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
/* Armv7-M ARM B3.2.20, B1.4.4: a reset leaves the floating-point unit off, and its first instruction would fault. Who is
 * not privileged may not look. */
int pock_check_machine(pock_session *session) {
  uint32_t control;
  __asm__ volatile("mrs %0, control" : "=r"(control));
  if (control & 1) return POCK_OK;
  uint32_t access = *(const volatile uint32_t *)0xE000ED88u; /* CPACR */
  if ((access >> 20 & 15) == 15) return POCK_OK;
  return pock_fail(session, POCK_ERROR_MACHINE,
                   "the floating-point unit is missing or off: set bits 20 to 23 of CPACR (0xE000ED88) first");
}
#else
int pock_check_machine(pock_session *session) {
  (void)session;
  return POCK_OK;
}
#endif

int pock_suggested_threads(void) { return 1; }

void pock_place_threads(pock_session *session, const char *root, int affinity) { (void)session, (void)root, (void)affinity; }
void pock_release_starter(pock_session *session) { (void)session; }
void pock_unmap_file(const void *mapping, size_t bytes) { (void)mapping, (void)bytes; }

/* ---- threads ---- */

int pock_threads_start(pock_session *session, int threads) {
  session->threads = threads;
  return POCK_OK;
}

void pock_threads_stop(pock_session *session) { session->threads = 1; }

typedef struct { /* the layout that TVM's kernels expect */
  void *sync_handle;
  int32_t num_task;
} parallel_group;

typedef int (*parallel_body)(int task, parallel_group *group, void *closure);

static int run_tasks(parallel_body body, void *closure, int tasks) {
  parallel_group group = {NULL, tasks ? tasks : 1};
  for (int task = 0; task < group.num_task; task++) {
    int code = body(task, &group, closure);
    if (code) return code;
  }
  return 0;
}

int (*__TVMBackendParallelLaunch)(parallel_body, void *, int) = run_tasks;

#if defined(__arm__)
/* Named by the unwind tables of every object: a compiler's own brings an unwinder along, and its heap. */
__attribute__((weak)) void __aeabi_unwind_cpp_pr0(void);
__attribute__((weak)) void __aeabi_unwind_cpp_pr1(void);
void __aeabi_unwind_cpp_pr0(void) {}
void __aeabi_unwind_cpp_pr1(void) {}
#endif

/* ---- messages ---- */

typedef struct {
  char *to;
  size_t size, length;
} line;

static void add(line *l, char c) {
  if (l->length + 1 < l->size) l->to[l->length++] = c;
}

static void add_text(line *l, const char *text) {
  while (*text) add(l, *text++);
}

static void add_number(line *l, uint64_t value, int negative) {
  char digits[20];
  int count = 0;
  do digits[count++] = (char)('0' + value % 10);
  while (value /= 10);
  if (negative) add(l, '-');
  while (count) add(l, digits[--count]);
}

static void add_signed(line *l, int64_t value) {
  add_number(l, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0);
}

/* Only losses that are not finite are told. */
static void add_float(line *l, double value) {
  add_text(l, value > 0 ? "inf" : value < 0 ? "-inf" : "nan");
}

/* %s, %d, %f, %llu and %lld. */
int pock_format(char *to, size_t size, const char *format, va_list arguments) {
  line l = {to, size, 0};
  for (; *format; format++) {
    if (*format != '%') {
      add(&l, *format);
      continue;
    }
    int wide = 0;
    for (format++; *format == 'l'; format++) wide++;
    if (*format == 's') {
      add_text(&l, va_arg(arguments, const char *));
    } else if (*format == 'f') {
      add_float(&l, va_arg(arguments, double));
    } else if (*format == 'd') {
      add_signed(&l, wide ? va_arg(arguments, long long) : va_arg(arguments, int));
    } else if (*format == 'u') {
      add_number(&l, va_arg(arguments, unsigned long long), 0);
    }
  }
  if (size) to[l.length] = 0;
  return (int)l.length;
}
