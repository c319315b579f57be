/* Trains with every road to new memory closed: the allocator counts its calls, and the kernel refuses brk, mmap and
 * mremap. `heap_driver WEIGHTS CHECKPOINT none|malloc|mmap`: the last word makes a step break the rule, as a check
 * that the check works. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pock.h"

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static atomic_int allocations;

void *malloc(size_t n) { return allocations++, __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return allocations++, __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return allocations++, __libc_realloc(p, n); }

static int close_the_roads(void) {
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_brk, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP), /* SIGSYS in whatever thread tried */
  };
  struct sock_fprog filter = {sizeof program / sizeof *program, program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
}

static void fill(pock_session *session) {
  size_t bytes;
  float *x = pock_tensor(session, "x", &bytes);
  for (size_t i = 0; i < bytes / sizeof *x; i++) x[i] = (float)(i % 5) - 2;
  int32_t *labels = pock_tensor(session, "labels", &bytes);
  for (size_t i = 0; i < bytes / sizeof *labels; i++) labels[i] = (int32_t)(i % 3);
}

static int train(pock_session *session, const char *checkpoint) {
  float loss;
  int32_t correct;
  for (int i = 0; i < 50; i++) {
    fill(session);
    if (pock_train_step(session, 0.01f, &loss)) return 1;
  }
  fill(session);
  if (pock_evaluate(session, &loss, &correct)) return 1;
  fill(session);
  if (pock_predict(session)) return 1;
  fill(session);
  *(int32_t *)pock_tensor(session, "labels", NULL) = 9;
  if (pock_train_step(session, 0.01f, &loss) != POCK_ERROR_BATCH) return 1;
  fill(session);
  if (pock_train_step(session, -8.0f, &loss) != POCK_ERROR_KERNEL) return 1; /* workspace exhausted */
  return pock_checkpoint_save(session, checkpoint) || pock_checkpoint_load(session, checkpoint);
}

int main(int count, char **words) {
  if (count != 4) return 2;
  int threads = 4;
  pock_session *session = aligned_alloc(64, (pock_session_bytes() + 63) / 64 * 64);
  void *state = aligned_alloc(64, pock_state_bytes()), *arena = aligned_alloc(64, pock_arena_bytes(threads));
  pock_setup setup = {.abi = POCK_ABI, .threads = threads, .session_bytes = pock_session_bytes()};
  setup.state = state, setup.state_bytes = pock_state_bytes();
  setup.arena = arena, setup.arena_bytes = pock_arena_bytes(threads);
  if (pock_open(session, words[1], &setup)) return fprintf(stderr, "%s\n", pock_last_error(session)), 2;
  if (close_the_roads()) return fprintf(stderr, "no seccomp: %s\n", strerror(errno)), 77;
  allocations = 0;
  int code = train(session, words[2]);
  if (!strcmp(words[3], "malloc")) free(strdup("a call that libc makes by itself"));
  if (!strcmp(words[3], "mmap")) mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char line[64]; /* stdio would allocate its buffer */
  int length = snprintf(line, sizeof line, "code %d allocations %d\n", code, (int)allocations);
  return write(1, line, (size_t)length) != length;
}
