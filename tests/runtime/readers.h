/* The readers of files, each fed with bytes from memory, and what must hold whatever the bytes are.
 *
 * A reader takes the file or refuses it with POCK_ERROR_FILE and a message; what it refuses changes nothing. What it
 * takes must be safe to work with: a step is run on it.
 */
#ifndef READERS_H
#define READERS_H

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pock_data.h"
#include "pock_rate.h"

#define MUST(condition)                                                  \
  do {                                                                   \
    if (!(condition)) {                                                  \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
      abort();                                                           \
    }                                                                    \
  } while (0)

static pock_session *the_session; /* open, for the readers that need one */
static pock_session *spare;       /* for pock_open */
static pock_setup the_setup, spare_setup;
static unsigned char *before;

static void *region(size_t bytes) {
  void *memory = NULL;
  MUST(!posix_memalign(&memory, POCK_ALIGNMENT, bytes));
  memset(memory, 0, bytes);
  return memory;
}

static pock_setup whole_setup(void) {
  pock_setup setup = {.abi = POCK_ABI, .threads = 1, .session_bytes = pock_session_bytes()};
  setup.state_bytes = pock_state_bytes(), setup.state = region(setup.state_bytes);
  setup.arena_bytes = pock_arena_bytes(1), setup.arena = region(setup.arena_bytes);
  setup.frozen_bytes = pock_frozen_bytes(), setup.frozen = region(setup.frozen_bytes);
  return setup;
}

static void readers_start(void) {
  if (the_session) return;
  the_session = region(pock_session_bytes());
  spare = region(pock_session_bytes());
  before = region(pock_state_bytes());
  the_setup = whole_setup(), spare_setup = whole_setup();
  MUST(!pock_init(the_session, &the_setup));
}

/* One file in memory, written again for each input. */
static const char *as_file(const unsigned char *bytes, size_t count) {
  static int file = -1;
  static char path[64];
  if (file < 0) file = memfd_create("input", 0);
  MUST(file >= 0 && !ftruncate(file, 0));
  MUST(pwrite(file, bytes, count, 0) == (ssize_t)count);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  return path;
}

static int judged(const pock_session *session, int code) {
  const char *message = pock_last_error(session);
  MUST(code == POCK_OK || code == POCK_ERROR_FILE);
  MUST(!message[0] == !code && strlen(message) < 512 && !strchr(message, '\n'));
  return code;
}

/* Numbers of any kind may come out, but only through the checks of the entry points. */
static void work_with(pock_session *session) {
  float loss;
  int32_t correct;
  int code = pock_evaluate(session, &loss, &correct);
  MUST(code == POCK_OK || code == POCK_ERROR_BATCH || code == POCK_ERROR_KERNEL);
}

static int read_weights(const unsigned char *bytes, size_t count) {
  int codes[2];
  for (int trust = 0; trust < 2; trust++) {
    spare_setup.trust_weights = trust;
    codes[trust] = judged(spare, pock_open(spare, as_file(bytes, count), &spare_setup));
    if (!codes[trust]) work_with(spare);
    pock_shutdown(spare);
  }
  MUST(codes[0] || !codes[1]); /* who is trusted is not refused */
  return codes[0];
}

static int read_checkpoint(const unsigned char *bytes, size_t count) {
  pock_progress old, now;
  memcpy(before, the_setup.state, pock_state_bytes());
  pock_get_progress(the_session, &old);
  int code = judged(the_session, pock_checkpoint_load(the_session, as_file(bytes, count)));
  pock_get_progress(the_session, &now);
  if (code) {
    MUST(!memcmp(before, the_setup.state, pock_state_bytes()));
    MUST(!memcmp(&old, &now, sizeof old));
    return code;
  }
  work_with(the_session);
  memset(the_setup.state, 0, pock_state_bytes());
  memset(&now, 0, sizeof now);
  pock_set_progress(the_session, &now);
  return code;
}

static int read_data(const unsigned char *bytes, size_t count) {
  pock_data data;
  int code = judged(the_session, pock_data_open(the_session, &data, as_file(bytes, count)));
  if (code) return code;
  const uint64_t firsts[] = {0, 1, data.count - 1, UINT64_MAX - 1};
  for (int i = 0; i < 4; i++) {
    MUST(!pock_data_fill(the_session, &data, firsts[i], pock_artifact.batch));
    work_with(the_session);
  }
  const pock_augmentation augmentation = {.crop = 9, .flip = 1};
  static pock_draw draws[256];
  pock_order order = {.draws = data.count <= 256 ? draws : NULL, .count = data.count, .seed = data.count};
  for (int i = 0; i < 4; i++) {
    MUST(!pock_data_draw(the_session, &data, &order, i % 2 ? &augmentation : NULL, firsts[i]));
    work_with(the_session);
  }
  MUST(!pock_data_repeat(the_session, &data, 0, 1));
  pock_data_close(&data);
  return code;
}

static int read_schedule(const unsigned char *bytes, size_t count) {
  char text[256];
  if (count >= sizeof text) return POCK_ERROR_FILE;
  memcpy(text, bytes, count);
  text[count] = 0;
  pock_schedule schedule;
  if (pock_schedule_read(&schedule, text)) return POCK_ERROR_FILE;
  for (uint64_t step = 0; step < 100; step += 9) (void)pock_schedule_rate(&schedule, 0.1, step, step < 50 ? 100 : 3);
  (void)pock_schedule_rate(&schedule, 0.1, UINT64_MAX, 0);
  return POCK_OK;
}

/* ---- hashes set right, so that a change gets past them ---- */

static void no_repair(unsigned char *bytes, size_t count) { (void)bytes, (void)count; }

static void repair_checkpoint(unsigned char *bytes, size_t count) {
  uint64_t at = pock_artifact.sha256_at;
  if (count < at + 64) return;
  pock_sha256 hash;
  uint8_t digest[32];
  memset(bytes + at, '0', 64);
  pock_sha256_start(&hash);
  pock_sha256_add(&hash, bytes, count);
  pock_sha256_end(&hash, digest);
  for (int i = 0; i < 64; i++) bytes[at + (uint64_t)i] = (unsigned char)"0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
}

static void repair_data(unsigned char *bytes, size_t count) {
  if (count < 64) return;
  pock_sha256 hash;
  pock_sha256_start(&hash);
  pock_sha256_add(&hash, bytes, 32);
  pock_sha256_add(&hash, bytes + 64, count - 64);
  pock_sha256_end(&hash, bytes + 32);
}

static const struct {
  const char *name;
  int (*read)(const unsigned char *bytes, size_t count);
  void (*repair)(unsigned char *bytes, size_t count);
} readers[] = {{"weights", read_weights, no_repair},
               {"checkpoint", read_checkpoint, repair_checkpoint},
               {"data", read_data, repair_data},
               {"schedule", read_schedule, no_repair}};

enum { WEIGHTS, CHECKPOINT, DATA, SCHEDULE };

#endif
