/* Weights and checkpoints: both are safetensors files, read and written without a JSON parser.
 *
 * The generated tables hold the one start that a checkpoint of this artifact can have; a file whose start differs in
 * anything but the four fields of fixed width belongs to something else.
 */
#include "pock_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define CHUNK_BYTES 16384
#define NUMBER_WIDTH 20 /* digits of the largest uint64 */

/* ---- what is read of a file, without keeping any of it in memory ---- */

int pock_open_file(const char *path, uint64_t *bytes) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make it wait */
  if (file < 0) return -1;
  int why = 0;
  if (fstat(file, &status))
    why = errno;
  else if (status.st_size <= 0 || !S_ISREG(status.st_mode))
    why = EINVAL;
  if (why) {
    close(file);
    errno = why;
    return -1;
  }
  *bytes = (uint64_t)status.st_size;
  return file;
}

void pock_close_file(int file) { close(file); }

int pock_read_at(int file, void *to, size_t bytes, uint64_t at) {
  unsigned char *next = to;
  while (bytes) {
    ssize_t got = pread(file, next, bytes, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (!got) errno = EIO; /* the file has become shorter */
    if (got <= 0) return -1;
    next += got;
    at += (uint64_t)got;
    bytes -= (size_t)got;
  }
  return 0;
}

int pock_hash_file(pock_sha256 *hash, int file, uint64_t from, uint64_t bytes) {
  char chunk[CHUNK_BYTES];
  while (bytes) {
    size_t count = bytes < CHUNK_BYTES ? (size_t)bytes : CHUNK_BYTES;
    if (pock_read_at(file, chunk, count, from)) return -1;
    pock_sha256_add(hash, chunk, count);
    from += count;
    bytes -= count;
  }
  return 0;
}

/* ---- the weights file ---- */

void pock_unmap_file(const void *mapping, size_t bytes) {
  if (mapping) munmap((void *)(uintptr_t)mapping, bytes);
}

static int cannot_read(pock_session *session, const char *path) {
  return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
}

static int check_weights(pock_session *session, const char *path, int file, uint64_t bytes, int verify) {
  if (bytes != pock_artifact.weights_bytes)
    return pock_fail(session, POCK_ERROR_FILE, "%s has %llu bytes, not %llu: truncated, or of another artifact", path,
                     (unsigned long long)bytes, (unsigned long long)pock_artifact.weights_bytes);
  if (!verify) return POCK_OK;
  pock_sha256 hash;
  uint8_t digest[32];
  pock_sha256_start(&hash);
  if (pock_hash_file(&hash, file, 0, bytes)) return cannot_read(session, path);
  pock_sha256_end(&hash, digest);
  if (memcmp(digest, pock_artifact.weights_sha256, sizeof digest))
    return pock_fail(session, POCK_ERROR_FILE, "%s does not have the SHA-256 of this artifact's weights: damaged, or of another artifact",
                     path);
  return POCK_OK;
}

/* Frozen weights are mapped, those that learn are read into the state: none lies in memory twice. */
static int start_from(pock_session *session, const char *path, int file, const pock_setup *setup) {
  size_t mapped = (size_t)(pock_artifact.weights_data_offset + pock_artifact.frozen_bytes);
  uint64_t trainable = pock_artifact.trainable_bytes;
  unsigned char *mapping = mmap(NULL, mapped, PROT_READ, MAP_PRIVATE, file, 0);
  if (mapping == MAP_FAILED) return cannot_read(session, path);
  int code = pock_start(session, setup, mapping + pock_artifact.weights_data_offset);
  if (code) {
    pock_unmap_file(mapping, mapped);
    return code;
  }
  session->mapping = mapping;
  session->mapping_bytes = mapped;
  if (pock_read_at(file, session->state, (size_t)trainable, mapped)) {
    code = cannot_read(session, path);
    pock_shutdown(session);
    return code;
  }
  memset(session->state + trainable, 0, (size_t)(pock_artifact.state_bytes - trainable));
  return POCK_OK;
}

int pock_open(pock_session *session, const char *weights, const pock_setup *setup) {
  int code = pock_begin(session, setup);
  if (code) return code;
  if (!weights) return pock_fail(session, POCK_ERROR_ARGUMENT, "the weights file has no name: it is NULL");
  uint64_t bytes = 0;
  int file = pock_open_file(weights, &bytes);
  if (file < 0) return cannot_read(session, weights);
  code = check_weights(session, weights, file, bytes, !setup->trust_weights);
  if (!code) code = start_from(session, weights, file, setup);
  close(file);
  if (code) return code;
  pock_say(session, POCK_LOG_INFO, "%s for %s: %d threads, weights from %s", pock_artifact.model, pock_artifact.target,
           session->threads, weights);
  return POCK_OK;
}

/* ---- the start of a checkpoint ---- */

typedef struct {
  char step[NUMBER_WIDTH + 1], cursor[NUMBER_WIDTH + 1], seed[NUMBER_WIDTH + 1], sha256[65];
} checkpoint_fields;

typedef struct {
  uint64_t at, width;
  char *text;
} field_slot;

static void field_slots(checkpoint_fields *fields, field_slot slots[4]) {
  const field_slot all[4] = {{pock_artifact.step_at, NUMBER_WIDTH, fields->step},
                             {pock_artifact.cursor_at, NUMBER_WIDTH, fields->cursor},
                             {pock_artifact.seed_at, NUMBER_WIDTH, fields->seed},
                             {pock_artifact.sha256_at, 64, fields->sha256}};
  memcpy(slots, all, sizeof all);
}

/* Copy bytes [from, from + count) of the start with its fields filled in. */
static void render_start(checkpoint_fields *fields, uint64_t from, size_t count, char *to) {
  field_slot slots[4];
  field_slots(fields, slots);
  for (size_t i = 0; i < count; i++) {
    uint64_t at = from + i;
    to[i] = at < pock_artifact.checkpoint_start_bytes ? pock_artifact.checkpoint_start[at] : ' ';
    for (int s = 0; s < 4; s++)
      if (at - slots[s].at < slots[s].width) to[i] = slots[s].text[at - slots[s].at];
  }
}

static void write_hex(const uint8_t digest[32], char text[65]) {
  static const char digits[] = "0123456789abcdef";
  for (int i = 0; i < 32; i++) {
    text[2 * i] = digits[digest[i] >> 4];
    text[2 * i + 1] = digits[digest[i] & 15];
  }
  text[64] = 0;
}

static int read_number(const char *text, uint64_t *value) {
  *value = 0;
  for (int i = 0; i < NUMBER_WIDTH; i++) {
    unsigned digit = (unsigned)(text[i] - '0');
    if (digit > 9 || *value > (UINT64_MAX - digit) / 10) return -1;
    *value = *value * 10 + digit;
  }
  return 0;
}

/* The hash covers the start too, with zeros where the hash itself stands. */
static void hash_start(pock_sha256 *hash, const checkpoint_fields *fields) {
  checkpoint_fields blank = *fields;
  memset(blank.sha256, '0', 64);
  pock_sha256_start(hash);
  char chunk[CHUNK_BYTES];
  uint64_t end = pock_artifact.checkpoint_data_offset;
  for (uint64_t at = 0; at < end; at += CHUNK_BYTES) {
    size_t count = end - at < CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;
    render_start(&blank, at, count, chunk);
    pock_sha256_add(hash, chunk, count);
  }
}

/* ---- save ---- */

static int all_finite(const unsigned char *from, const pock_tensor_row *row) {
  uint64_t count = row->bytes / row->item_bytes;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t bits64;
    uint32_t bits32;
    uint16_t bits16;
    switch (row->dtype) { /* not finite: all exponent bits set */
      case POCK_FLOAT32:
        memcpy(&bits32, from + 4 * i, 4);
        if ((bits32 & 0x7f800000u) == 0x7f800000u) return 0;
        break;
      case POCK_FLOAT64:
        memcpy(&bits64, from + 8 * i, 8);
        if ((bits64 & 0x7ff0000000000000u) == 0x7ff0000000000000u) return 0;
        break;
      case POCK_FLOAT16:
        memcpy(&bits16, from + 2 * i, 2);
        if ((bits16 & 0x7c00u) == 0x7c00u) return 0;
        break;
      case POCK_BFLOAT16:
        memcpy(&bits16, from + 2 * i, 2);
        if ((bits16 & 0x7f80u) == 0x7f80u) return 0;
        break;
      default:
        return 1;
    }
  }
  return 1;
}

/* A loss shows a bad update one step late; the last good checkpoint must not be replaced in between. */
static int check_state_finite(pock_session *session) {
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->region == POCK_STATE && !all_finite(session->state + row->offset, row))
      return pock_fail(session, POCK_ERROR_DIVERGED, "%s holds NaN or infinity; no checkpoint is written", row->name);
  }
  return POCK_OK;
}

static int write_all(int file, const void *from, size_t bytes) {
  const unsigned char *next = from;
  while (bytes) {
    ssize_t wrote = write(file, next, bytes);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return -1;
    next += wrote;
    bytes -= (size_t)wrote;
  }
  return 0;
}

static int write_checkpoint(pock_session *session, int file) {
  checkpoint_fields fields;
  snprintf(fields.step, sizeof fields.step, "%020llu", (unsigned long long)session->progress.step);
  snprintf(fields.cursor, sizeof fields.cursor, "%020llu", (unsigned long long)session->progress.cursor);
  snprintf(fields.seed, sizeof fields.seed, "%020llu", (unsigned long long)session->progress.seed);
  pock_sha256 hash;
  uint8_t digest[32];
  hash_start(&hash, &fields);
  pock_sha256_add(&hash, session->state, pock_artifact.state_bytes);
  pock_sha256_end(&hash, digest);
  write_hex(digest, fields.sha256);
  char chunk[CHUNK_BYTES];
  uint64_t end = pock_artifact.checkpoint_data_offset;
  for (uint64_t at = 0; at < end; at += CHUNK_BYTES) {
    size_t count = end - at < CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;
    render_start(&fields, at, count, chunk);
    if (write_all(file, chunk, count)) return -1;
  }
  if (write_all(file, session->state, pock_artifact.state_bytes)) return -1;
  return fsync(file);
}

/* A rename survives a power cut only once the folder is synced; some file systems cannot, and then nothing helps. */
static void sync_folder_of(const char *path) {
  char folder[PATH_BYTES];
  const char *slash = strrchr(path, '/');
  size_t length = slash ? (size_t)(slash - path) : 0;
  if (length >= sizeof folder) return;
  memcpy(folder, path, length);
  folder[length] = 0;
  int file = open(length ? folder : slash ? "/" : ".", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  fsync(file);
  close(file);
}

int pock_checkpoint_save(pock_session *session, const char *path) {
  int code = pock_ready(session);
  if (code) return code;
  if (!path) return pock_fail(session, POCK_ERROR_ARGUMENT, "the checkpoint has no name: it is NULL");
  char fresh[PATH_BYTES];
  if (snprintf(fresh, sizeof fresh, "%s.partial", path) >= (int)sizeof fresh)
    return pock_fail(session, POCK_ERROR_FILE, "the path of the checkpoint is too long");
  code = check_state_finite(session);
  if (code) return code;
  int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return pock_fail(session, POCK_ERROR_FILE, "cannot create %s: %s", fresh, strerror(errno));
  int failed = write_checkpoint(session, file), why = errno;
  if (close(file) && !failed) failed = 1, why = errno;
  if (!failed && rename(fresh, path)) failed = 1, why = errno;
  if (failed) {
    unlink(fresh);
    return pock_fail(session, POCK_ERROR_FILE, "cannot write checkpoint %s: %s; what stood there before is kept", path,
                     strerror(why));
  }
  sync_folder_of(path);
  pock_say(session, POCK_LOG_INFO, "saved step %llu as %s", (unsigned long long)session->progress.step, path);
  return POCK_OK;
}

/* ---- load ---- */

/* Read the fields, then compare the rest of the start with what it must be. */
static int check_start(pock_session *session, const char *path, int file, checkpoint_fields *fields) {
  field_slot slots[4];
  field_slots(fields, slots);
  memset(fields, 0, sizeof *fields);
  for (int s = 0; s < 4; s++)
    if (pock_read_at(file, slots[s].text, (size_t)slots[s].width, slots[s].at))
      return cannot_read(session, path);
  char found[CHUNK_BYTES], wanted[CHUNK_BYTES];
  uint64_t end = pock_artifact.checkpoint_data_offset;
  for (uint64_t at = 0; at < end; at += CHUNK_BYTES) {
    size_t count = end - at < CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;
    if (pock_read_at(file, found, count, at))
      return cannot_read(session, path);
    render_start(fields, at, count, wanted);
    if (memcmp(found, wanted, count))
      return pock_fail(session, POCK_ERROR_FILE, "%s is not a checkpoint of this artifact: its header differs", path);
  }
  return POCK_OK;
}

static int check_data(pock_session *session, const char *path, int file, const checkpoint_fields *fields) {
  pock_sha256 hash;
  uint8_t digest[32];
  char text[65];
  hash_start(&hash, fields);
  if (pock_hash_file(&hash, file, pock_artifact.checkpoint_data_offset, pock_artifact.state_bytes))
    return cannot_read(session, path);
  pock_sha256_end(&hash, digest);
  write_hex(digest, text);
  if (memcmp(text, fields->sha256, 64))
    return pock_fail(session, POCK_ERROR_FILE, "%s is damaged: its SHA-256 does not match", path);
  return POCK_OK;
}

static int load_from(pock_session *session, const char *path, int file) {
  struct stat status;
  uint64_t wanted = pock_artifact.checkpoint_data_offset + pock_artifact.state_bytes;
  if (fstat(file, &status))
    return cannot_read(session, path);
  if ((uint64_t)status.st_size != wanted)
    return pock_fail(session, POCK_ERROR_FILE, "%s has %llu bytes, not %llu: truncated, or of another artifact", path,
                     (unsigned long long)status.st_size, (unsigned long long)wanted);
  checkpoint_fields fields;
  pock_progress progress;
  int code = check_start(session, path, file, &fields);
  if (!code) code = check_data(session, path, file, &fields);
  if (code) return code;
  if (read_number(fields.step, &progress.step) || read_number(fields.cursor, &progress.cursor) ||
      read_number(fields.seed, &progress.seed))
    return pock_fail(session, POCK_ERROR_FILE, "%s is damaged: its counters are not numbers", path);
  if (pock_read_at(file, session->state, pock_artifact.state_bytes, pock_artifact.checkpoint_data_offset))
    return pock_fail(session, POCK_ERROR_FILE, "reading %s failed half way (%s); load another checkpoint before going on",
                     path, strerror(errno));
  session->progress = progress;
  return POCK_OK;
}

int pock_checkpoint_load(pock_session *session, const char *path) {
  int code = pock_ready(session);
  if (code) return code;
  if (!path) return pock_fail(session, POCK_ERROR_ARGUMENT, "the checkpoint has no name: it is NULL");
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return cannot_read(session, path);
  code = load_from(session, path, file);
  close(file);
  if (!code)
    pock_say(session, POCK_LOG_INFO, "goes on from step %llu of %s", (unsigned long long)session->progress.step, path);
  return code;
}
