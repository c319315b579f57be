/* Two threads train one session each, at once, then each alone: the losses must be the same bit for bit.
 *
 *   two_sessions WEIGHTS
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pock.h"

enum { STEPS = 20 };

typedef struct {
  const char *weights;
  float value, losses[STEPS];
  int code;
} run;

static void *region(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, POCK_ALIGNMENT, bytes ? bytes : 1)) exit(3);
  return memset(memory, 0, bytes);
}

static void fill(pock_session *session, float value) {
  pock_tensor_about about;
  for (int i = 0; i < pock_tensor_count(); i++) {
    if (pock_describe_tensor(session, i, &about) || about.role != POCK_INPUT || about.dtype != POCK_FLOAT32) continue;
    float *at = pock_tensor(session, about.name, NULL);
    for (size_t k = 0; k < about.bytes / 4; k++) at[k] = value * (float)(k % 5);
  }
}

static void *train(void *argument) {
  run *r = argument;
  pock_setup setup = {.abi = POCK_ABI, .threads = 1, .session_bytes = pock_session_bytes()};
  pock_session *session = region(setup.session_bytes);
  setup.state = region(setup.state_bytes = pock_state_bytes());
  setup.arena = region(setup.arena_bytes = pock_arena_bytes(1));
  r->code = pock_open(session, r->weights, &setup);
  for (int i = 0; i < STEPS && !r->code; i++) {
    fill(session, r->value);
    r->code = pock_train_step(session, 0.01f, &r->losses[i]);
  }
  if (r->code) fprintf(stderr, "%s\n", pock_last_error(session));
  pock_shutdown(session);
  free(setup.arena), free(setup.state), free(session);
  return NULL;
}

int main(int count, char **words) {
  if (count != 2) return 2;
  run alone[2] = {{.weights = words[1], .value = 1}, {.weights = words[1], .value = 0.5f}}, both[2];
  memcpy(both, alone, sizeof both);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], NULL, train, &both[i])) return 3;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; i++) train(&alone[i]);
  if (memcmp(alone, both, sizeof both)) return fprintf(stderr, "the losses differ\n"), 1;
  return alone[0].code;
}
