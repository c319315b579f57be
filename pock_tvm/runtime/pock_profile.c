/* pock_profile: one training step, kernel by kernel, with a timer around each; JSON on stdout.
 *
 *   pock_profile weights.safetensors THREADS STEPS
 *
 * The calls and their addresses stand in the generated pock_calls.c. Inputs are made up and the learning rate is 0: the
 * weights stay as they are, and every kernel does its work all the same. The roofline is measured in the same process.
 */
#include "pock_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pock_calls.h"

#ifndef POCK_VECTOR_BYTES
#define POCK_VECTOR_BYTES 16
#endif

enum { WARM_UP = 3, ACCUMULATORS = 12, ROUNDS = 40 }; /* rounds of a millisecond: some meet an idle core */

typedef float vector __attribute__((vector_size(POCK_VECTOR_BYTES)));

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *aligned(size_t bytes) {
  void *memory = NULL;
  size_t whole = (bytes / 4096 + 1) * 4096;
  if (posix_memalign(&memory, 4096, whole)) {
    fprintf(stderr, "pock_profile: no memory for %zu bytes\n", whole);
    exit(1);
  }
  memset(memory, 0, whole);
  return memory;
}

/* ---- the roofline of one core ---- */

static double peak_flops(void) {
  vector sum[ACCUMULATORS], a, b;
  memset(sum, 0, sizeof sum);
  for (size_t i = 0; i < sizeof a / sizeof(float); i++) {
    a[i] = 0.999f;
    b[i] = 0.001f;
  }
  const int turns = 300000;
  double best = 0;
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t start = now_ns();
    for (int t = 0; t < turns; t++)
      for (int i = 0; i < ACCUMULATORS; i++) sum[i] = sum[i] * a + b;
    double flops = 2.0 * turns * ACCUMULATORS * (sizeof a / sizeof(float)) / (double)(now_ns() - start) * 1e9;
    if (flops > best) best = flops;
  }
  volatile float keep = 0;
  for (int i = 0; i < ACCUMULATORS; i++) keep = keep + sum[i][0];
  return best;
}

/* x = y + s · z over three arrays of `bytes` in all. */
static double bandwidth(size_t bytes) {
  size_t count = bytes / 3 / sizeof(vector);
  vector *x = aligned(count * sizeof(vector)), *y = aligned(count * sizeof(vector)), *z = aligned(count * sizeof(vector));
  size_t turns = (size_t)40000000 / bytes + 1;
  double best = 0;
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t start = now_ns();
    for (size_t t = 0; t < turns; t++) {
      for (size_t i = 0; i < count; i++) x[i] = y[i] + 0.5f * z[i];
      __asm__ volatile("" : : "r"(x), "r"(y), "r"(z) : "memory"); /* every turn counts */
    }
    double speed = (double)(turns * count * 3 * sizeof(vector)) / (double)(now_ns() - start) * 1e9;
    if (speed > best) best = speed;
  }
  free(x);
  free(y);
  free(z);
  return best;
}

/* ---- the step ---- */

static void fill_inputs(pock_session *session) {
  uint32_t seed = 1;
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region != POCK_ARENA || !(row->read_by >> POCK_TRAIN_STEP & 1)) continue;
    unsigned char *to = session->arena + row->offset;
    memset(to, 0, row->bytes);
    uint64_t count = row->bytes / row->item_bytes;
    if (row->role == POCK_HYPER) continue;
    for (uint64_t k = 0; k < count; k++) {
      seed = seed * 1664525u + 1013904223u;
      if (row->dtype == POCK_FLOAT32)
        ((float *)to)[k] = (float)(int32_t)seed * 4.6566129e-10f;
      else if (row->dtype == POCK_INT32 && row->has_limit)
        ((int32_t *)to)[k] = (int32_t)((seed >> 8) % (uint32_t)row->limit);
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: pock_profile WEIGHTS THREADS STEPS\n");
    return 2;
  }
  int threads = atoi(argv[2]), steps = atoi(argv[3]);
  if (steps < 1) steps = 1;
  pock_session *session = aligned(pock_session_bytes());
  void *state = aligned(pock_state_bytes()), *arena = aligned(pock_arena_bytes(threads < 1 ? 1 : threads));
  pock_setup setup = {.abi = POCK_ABI, .threads = threads, .session_bytes = pock_session_bytes()};
  setup.state = state, setup.state_bytes = pock_state_bytes();
  setup.arena = arena, setup.arena_bytes = pock_arena_bytes(threads < 1 ? 1 : threads);
  if (pock_open(session, argv[1], &setup)) {
    fprintf(stderr, "pock_profile: %s\n", pock_last_error(session));
    return 1;
  }
  uint64_t *spent = aligned(sizeof(uint64_t) * pock_call_count * (size_t)steps);
  for (int step = -WARM_UP; step < steps; step++) {
    fill_inputs(session);
    pock_workspace_reset(session);
    pock_current = &session->workers[0];
    for (uint32_t i = 0; i < pock_call_count; i++) {
      uint64_t start = now_ns();
      int32_t code = pock_calls[i](session->frozen, session->state, session->arena);
      uint64_t end = now_ns();
      if (code) {
        fprintf(stderr, "pock_profile: call %u failed: %s\n", i, pock_last_error(session));
        return 1;
      }
      if (step >= 0) spent[(size_t)step * pock_call_count + i] = end - start;
    }
    pock_current = NULL;
  }
  printf("{\"steps_ns\": [");
  for (int step = -WARM_UP; step < steps; step++) {
    fill_inputs(session);
    float loss;
    uint64_t start = now_ns();
    int code = pock_train_step(session, 0.0f, &loss);
    uint64_t end = now_ns();
    if (code && code != POCK_ERROR_DIVERGED) {
      fprintf(stderr, "pock_profile: %s\n", pock_last_error(session));
      return 1;
    }
    if (step >= 0) printf("%s%llu", step ? ", " : "", (unsigned long long)(end - start));
  }
  printf("],\n \"calls_ns\": [");
  for (uint32_t i = 0; i < pock_call_count; i++) {
    printf("%s\n  [", i ? "," : "");
    for (int step = 0; step < steps; step++)
      printf("%s%llu", step ? ", " : "", (unsigned long long)spent[(size_t)step * pock_call_count + i]);
    printf("]");
  }
  pock_shutdown(session);
  printf("],\n \"flops_per_s\": %.6e, \"cache_bytes_per_s\": %.6e, \"memory_bytes_per_s\": %.6e}\n", peak_flops(),
         bandwidth(192 * 1024), bandwidth(96u << 20));
  return 0;
}
