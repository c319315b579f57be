/* Train an artifact from C: the caller owns all memory.
 *
 *   cc train.c -Inet/runtime net/libpock_model.so -Wl,-rpath,'$ORIGIN' -o train && ./train net/weights.safetensors
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pock.h"

enum { THREADS = 2, STEPS = 5 };

static void *aligned(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, POCK_ALIGNMENT, bytes ? bytes : 1)) exit(1);
  return memory;
}

static int failed(const pock_session *session) {
  fprintf(stderr, "train: %s\n", pock_last_error(session));
  return 1;
}

/* Made-up samples: a program of your own copies pictures and labels here. */
static void fill(pock_session *session) {
  pock_tensor_about about;
  for (int i = 0; i < pock_tensor_count(); i++) {
    if (pock_describe_tensor(session, i, &about)) continue;
    if (about.role != POCK_INPUT && about.role != POCK_LABEL) continue;
    void *at = pock_tensor(session, about.name, NULL);
    for (size_t k = 0; k < about.bytes / 4; k++) {
      if (about.dtype == POCK_FLOAT32) ((float *)at)[k] = (float)(k % 5) - 2;
      if (about.dtype == POCK_INT32) ((int32_t *)at)[k] = (int32_t)(k % 3);
    }
  }
}

int main(int count, char **words) {
  if (count != 2) return 2;
  pock_setup setup = {.abi = POCK_ABI, .threads = THREADS};
  pock_session *session = aligned(setup.session_bytes = pock_session_bytes());
  setup.state = aligned(setup.state_bytes = pock_state_bytes());
  setup.arena = aligned(setup.arena_bytes = pock_arena_bytes(THREADS));
  if (pock_open(session, words[1], &setup)) return failed(session);
  for (int step = 0; step < STEPS; step++) {
    float loss;
    fill(session);
    if (pock_train_step(session, 0.01f, &loss)) return failed(session);
    printf("%.9g\n", (double)loss);
  }
  pock_shutdown(session);
  free(setup.arena);
  free(setup.state);
  free(session);
  return 0;
}
