/* What a caller of pock.h can do wrong, and what it can ask for; one word picks the part.
 *
 *   bad WEIGHTS        every wrong start and call: a code and a message, printed, and the session works afterwards
 *   memory WEIGHTS     starts from the weights in memory: wrong ones, then a step as after pock_open
 *   sessions WEIGHTS   two sessions trained by two threads at once, each as it would be alone
 *   log WEIGHTS DIR    what the log callback hears
 *   pinned WEIGHTS     where threads run under each affinity
 *   cores ROOT N       the ranking of cores 0 … N - 1 in a made-up /sys
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pock_internal.h"

enum { STEPS = 200 };

static void *regions[256];
static atomic_int region_count;

/* Memory of exactly this size, so that AddressSanitizer sees what lies behind it. */
static void *region(size_t bytes) {
  void *memory = NULL;
  int at = atomic_fetch_add(&region_count, 1);
  if (at >= 256 || posix_memalign(&memory, POCK_ALIGNMENT, bytes)) exit(3);
  memset(memory, 0, bytes);
  return regions[at] = memory;
}

static void free_regions(void) {
  for (int i = 0; i < region_count; i++) free(regions[i]);
}

static pock_setup whole_setup(int threads) {
  pock_setup setup = {.abi = POCK_ABI, .threads = threads, .session_bytes = pock_session_bytes()};
  setup.state_bytes = pock_state_bytes();
  setup.state = region(setup.state_bytes);
  setup.arena_bytes = pock_arena_bytes(threads);
  setup.arena = region(setup.arena_bytes);
  return setup;
}

static void fill(pock_session *session, float by) {
  float x[24];
  int32_t labels[4];
  for (int i = 0; i < 24; i++) x[i] = by * ((float)(i % 5) - 2);
  for (int i = 0; i < 4; i++) labels[i] = i % 3;
  if (pock_write_tensor(session, "x", x, sizeof x) || pock_write_tensor(session, "labels", labels, sizeof labels)) exit(4);
}

/* ---- bad ---- */

static void show(const char *what, int code, const pock_session *session) {
  printf("%s: %d %s\n", what, code, pock_last_error(session));
}

static void try_open(const char *what, const char *weights, pock_setup setup) {
  pock_session *session = region(pock_session_bytes());
  int code = pock_open(session, weights, &setup);
  show(what, code, session);
  float loss;
  if (pock_train_step(session, 0.1f, &loss) != POCK_ERROR_ARGUMENT) exit(5); /* not started, and it knows */
  pock_shutdown(session);
  pock_shutdown(session);
}

static int bad(const char *weights) {
  pock_session *session = region(pock_session_bytes());
  pock_setup setup = whole_setup(2), changed = setup;
  show("no session", pock_open(NULL, weights, &setup), NULL);
  show("no setup", pock_open(session, weights, NULL), NULL);
  show("session askew", pock_open((pock_session *)((char *)session + 8), weights, &setup), NULL);
  changed.session_bytes--;
  show("small session", pock_open(session, weights, &changed), NULL);
  changed = setup, changed.abi = 1;
  show("old header", pock_open(session, weights, &changed), NULL);
  changed = setup, changed.arena_bytes -= 100;
  try_open("small arena", weights, changed);
  changed = setup, changed.state_bytes = 0;
  try_open("small state", weights, changed);
  changed = setup, changed.arena = (char *)setup.arena + 4;
  try_open("arena askew", weights, changed);
  changed = setup, changed.state = NULL;
  try_open("no state", weights, changed);
  changed = setup, changed.state = setup.arena;
  try_open("overlap", weights, changed);
  changed = setup, changed.threads = 0;
  try_open("no threads", weights, changed);
  changed = setup, changed.threads = 65;
  try_open("many threads", weights, changed);
  try_open("no file", "/nowhere/weights", setup);
  try_open("no name", NULL, setup);
  changed = setup, changed.frozen = region(64), changed.frozen_bytes = 63;
  show("small frozen", pock_init(session, &changed), session);
  if (pock_open(session, weights, &setup)) return 1;
  char bytes[1024];
  show("no tensor", pock_read_tensor(session, "nothing", bytes, 4), session);
  show("no tensor name", pock_read_tensor(session, NULL, bytes, 4), session);
  show("wrong size", pock_read_tensor(session, "fc.bias", bytes, 8), session);
  show("nowhere to", pock_read_tensor(session, "fc.bias", NULL, 4), session);
  show("frozen", pock_write_tensor(session, "scale", bytes, 24), session);
  pock_tensor_about about;
  show("no such number", pock_describe_tensor(session, pock_tensor_count(), &about), session);
  show("no checkpoint name", pock_checkpoint_save(session, NULL), session);
  show("no step's session", pock_train_step(NULL, 0.1f, NULL), NULL);
  pock_progress progress = {1, 2, 3};
  pock_get_progress(NULL, &progress);
  pock_get_progress(session, NULL);
  pock_set_progress(NULL, &progress);
  pock_set_progress(session, NULL);
  if (progress.cursor || pock_waiting(NULL)) return 1;
  show("threads", pock_set_threads(session, 3), session);
  fill(session, 1);
  show("kernel", pock_train_step(session, -8.0f, NULL), session);
  fill(session, 1);
  float loss = 0;
  show("good step", pock_train_step(session, 0.01f, &loss), session);
  for (int i = 0; i < pock_tensor_count(); i++) {
    if (pock_describe_tensor(session, i, &about)) return 1;
    printf("%s %zu %d %d\n", about.name, about.bytes, (int)about.dtype, (int)about.writable);
  }
  pock_shutdown(session);
  return pock_tensor(session, "x", NULL) != NULL;
}

/* ---- memory ---- */

static float first_loss(pock_session *session) {
  float loss = 0;
  fill(session, 1);
  if (pock_train_step(session, 0.01f, &loss)) exit(6);
  pock_shutdown(session);
  return loss;
}

static int from_memory(const char *path) {
  const size_t bytes = (size_t)pock_artifact.weights_bytes;
  unsigned char *weights = region(bytes + 4);
  FILE *file = fopen(path, "rb");
  if (!file || fread(weights, 1, bytes, file) != bytes || fclose(file)) return 1;
  pock_session *session = region(pock_session_bytes());
  const pock_setup setup = whole_setup(1);
  pock_setup trusting = setup;
  trusting.trust_weights = 1;
  show("none", pock_open_memory(session, NULL, bytes, &setup), session);
  show("short", pock_open_memory(session, weights, bytes - 1, &setup), session);
  weights[bytes - 1] ^= 1;
  show("damaged", pock_open_memory(session, weights, bytes, &setup), session);
  show("trusted", pock_open_memory(session, weights, bytes, &trusting), session);
  pock_shutdown(session);
  weights[bytes - 1] ^= 1;
  memmove(weights + 4, weights, bytes);
  show("askew", pock_open_memory(session, weights + 4, bytes, &setup), session);
  memmove(weights, weights + 4, bytes);
  memset(setup.state, 255, setup.state_bytes); /* also what starts at zero is written */
  show("whole", pock_open_memory(session, weights, bytes, &setup), session);
  float loss = first_loss(session);
  if (pock_open(session, path, &setup)) return 1;
  return first_loss(session) != loss;
}

/* ---- sessions ---- */

typedef struct {
  const char *weights;
  float by, losses[STEPS];
  int code;
} run;

static void *train(void *argument) {
  run *r = argument;
  pock_session *session = region(pock_session_bytes());
  pock_setup setup = whole_setup(2);
  r->code = pock_open(session, r->weights, &setup);
  for (int i = 0; i < STEPS && !r->code; i++) {
    fill(session, r->by);
    r->code = pock_train_step(session, 0.01f, &r->losses[i]);
  }
  pock_shutdown(session);
  return NULL;
}

static int sessions(const char *weights) {
  run alone[2] = {{.weights = weights, .by = 1}, {.weights = weights, .by = 0.5f}}, both[2];
  memcpy(both, alone, sizeof both);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) train(&alone[i]);
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], NULL, train, &both[i])) return 1;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  printf("%d %d\n", memcmp(alone, both, sizeof both), !memcmp(both[0].losses, both[1].losses, sizeof both[0].losses));
  return alone[0].code;
}

/* ---- log ---- */

static void hear(void *context, int level, const char *line) { fprintf(context, "%d %s\n", level, line); }

static int listen(const char *weights, const char *folder) {
  char saved[256];
  snprintf(saved, sizeof saved, "%s/saved", folder);
  pock_session *session = region(pock_session_bytes());
  pock_setup setup = whole_setup(1);
  setup.log = hear, setup.log_context = stdout;
  if (pock_open(session, weights, &setup) || pock_checkpoint_save(session, saved)) return 1;
  if (pock_checkpoint_load(session, saved) || !pock_checkpoint_load(session, "/nowhere/saved")) return 1;
  pock_shutdown(session);
  return 0;
}

/* ---- cores ---- */

static int count_cores(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) ? -1 : CPU_COUNT(&set);
}

static int pinned(const char *weights) {
  const int kinds[] = {POCK_AFFINITY_AUTO, POCK_AFFINITY_NONE, POCK_AFFINITY_CORES};
  int before = count_cores();
  for (int i = 0; i < 3; i++) {
    pock_session *session = region(pock_session_bytes());
    pock_setup setup = whole_setup(2);
    setup.affinity = kinds[i];
    if (pock_open(session, weights, &setup)) return 1;
    fill(session, 1);
    if (pock_train_step(session, 0.01f, NULL)) return 1;
    cpu_set_t worker;
    if (pthread_getaffinity_np(session->workers[1].thread, sizeof worker, &worker)) return 1;
    int inside = count_cores(), of_worker = CPU_COUNT(&worker);
    pock_shutdown(session);
    printf("%d: %d %d %d %d\n", kinds[i], before, inside, of_worker, count_cores());
  }
  return 0;
}

static int rank(const char *root, int count) {
  pock_core_set allowed = {{0}};
  pock_core cores[POCK_MAX_CORES];
  for (int i = 0; i < count; i++) allowed.bits[i / 64] |= (uint64_t)1 << i % 64;
  int found = pock_rank_cores(root, &allowed, cores);
  printf("fast %d:", pock_fast_cores(cores, found));
  for (int i = 0; i < found; i++) printf(" %d", cores[i].number);
  pock_session *session = region(sizeof *session);
  session->max_threads = 2;
  pock_place_threads(session, root, POCK_AFFINITY_AUTO);
  printf("\nplaced %d %d %llx\n", session->workers[0].placed, session->workers[1].placed,
         (unsigned long long)session->workers[1].cores.bits[0]);
  return 0;
}

int main(int count, char **words) {
  atexit(free_regions);
  setvbuf(stdout, NULL, _IOLBF, 1 << 12);
  if (count == 3 && !strcmp(words[1], "bad")) return bad(words[2]);
  if (count == 3 && !strcmp(words[1], "memory")) return from_memory(words[2]);
  if (count == 3 && !strcmp(words[1], "sessions")) return sessions(words[2]);
  if (count == 4 && !strcmp(words[1], "log")) return listen(words[2], words[3]);
  if (count == 3 && !strcmp(words[1], "pinned")) return pinned(words[2]);
  if (count == 4 && !strcmp(words[1], "cores")) return rank(words[2], atoi(words[3]));
  return 2;
}
