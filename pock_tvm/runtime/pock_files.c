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
#define RELEASE_BYTES (1u << 20) /* read a mapping in pieces of this size, and give each back */
#define NUMBER_WIDTH 20 /* digits of the largest uint64 */

/* ---- the weights file ---- */

const void *pock_map_file(const char *path, size_t *bytes) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make it wait */
  if (file < 0) return NULL;
  void *mapping = MAP_FAILED;
  if (!fstat(file, &status)) {
    if (status.st_size > 0 && S_ISREG(status.st_mode)) {
      *bytes = (size_t)status.st_size;
      mapping = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, file, 0);
    } else {
      errno = EINVAL;
    }
  }
  int why = errno;
  close(file);
  errno = why;
  return mapping == MAP_FAILED ? NULL : mapping;
}

void pock_unmap_file(const void *mapping, size_t bytes) {
  if (mapping) munmap((void *)(uintptr_t)mapping, bytes);
}

/* The pages come from the file again when they are read again; until then they take no memory. */
static void release_pages(const unsigned char *from, size_t bytes) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)from / page * page;
  (void)madvise((void *)start, (uintptr_t)from + bytes - start, MADV_DONTNEED);
}

void pock_hash_mapping(pock_sha256 *hash, const unsigned char *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += RELEASE_BYTES) {
    size_t piece = bytes - at < RELEASE_BYTES ? bytes - at : RELEASE_BYTES;
    pock_sha256_add(hash, from + at, piece);
    release_pages(from + at, piece);
  }
}

/* Without the release, the trainable weights and the samples would lie in memory twice. */
void pock_copy_mapping(unsigned char *to, const unsigned char *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += RELEASE_BYTES) {
    size_t piece = bytes - at < RELEASE_BYTES ? bytes - at : RELEASE_BYTES;
    memcpy(to + at, from + at, piece);
    release_pages(from + at, piece);
  }
}

static int check_weights(pock_session *session, const char *path, const void *mapping, size_t bytes, int verify) {
  if (bytes != pock_artifact.weights_bytes)
    return pock_fail(session, POCK_ERROR_FILE, "%s has %llu bytes, not %llu: truncated, or of another artifact", path,
                     (unsigned long long)bytes, (unsigned long long)pock_artifact.weights_bytes);
  if (!verify) return POCK_OK;
  pock_sha256 hash;
  uint8_t digest[32];
  pock_sha256_start(&hash);
  pock_hash_mapping(&hash, mapping, bytes);
  pock_sha256_end(&hash, digest);
  if (memcmp(digest, pock_artifact.weights_sha256, sizeof digest))
    return pock_fail(session, POCK_ERROR_FILE, "%s does not have the SHA-256 of this artifact's weights: damaged, or of another artifact",
                     path);
  return POCK_OK;
}

int pock_open(pock_session *session, const char *weights, const pock_setup *setup) {
  int code = pock_begin(session, setup);
  if (code) return code;
  if (!weights) return pock_fail(session, POCK_ERROR_ARGUMENT, "the weights file has no name: it is NULL");
  size_t bytes = 0;
  const unsigned char *mapping = pock_map_file(weights, &bytes);
  if (!mapping) return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", weights, strerror(errno));
  const unsigned char *frozen = mapping + pock_artifact.weights_data_offset;
  code = check_weights(session, weights, mapping, bytes, !setup->trust_weights);
  if (!code) code = pock_start(session, setup, frozen);
  if (code) {
    pock_unmap_file(mapping, bytes);
    return code;
  }
  session->mapping = (void *)(uintptr_t)mapping;
  session->mapping_bytes = bytes;
  uint64_t trainable = pock_artifact.trainable_bytes;
  pock_copy_mapping(session->state, frozen + pock_artifact.frozen_bytes, trainable);
  if (pock_artifact.state_bytes > trainable)
    memset(session->state + trainable, 0, pock_artifact.state_bytes - trainable);
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

static int read_all(int file, void *to, size_t bytes, uint64_t at) {
  unsigned char *next = to;
  while (bytes) {
    ssize_t got = pread(file, next, bytes, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return -1;
    next += got;
    at += (uint64_t)got;
    bytes -= (size_t)got;
  }
  return 0;
}

/* Read the fields, then compare the rest of the start with what it must be. */
static int check_start(pock_session *session, const char *path, int file, checkpoint_fields *fields) {
  field_slot slots[4];
  field_slots(fields, slots);
  memset(fields, 0, sizeof *fields);
  for (int s = 0; s < 4; s++)
    if (read_all(file, slots[s].text, (size_t)slots[s].width, slots[s].at))
      return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
  char found[CHUNK_BYTES], wanted[CHUNK_BYTES];
  uint64_t end = pock_artifact.checkpoint_data_offset;
  for (uint64_t at = 0; at < end; at += CHUNK_BYTES) {
    size_t count = end - at < CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;
    if (read_all(file, found, count, at))
      return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
    render_start(fields, at, count, wanted);
    if (memcmp(found, wanted, count))
      return pock_fail(session, POCK_ERROR_FILE, "%s is not a checkpoint of this artifact: its header differs", path);
  }
  return POCK_OK;
}

static int check_data(pock_session *session, const char *path, int file, const checkpoint_fields *fields) {
  pock_sha256 hash;
  uint8_t digest[32];
  char chunk[CHUNK_BYTES], text[65];
  hash_start(&hash, fields);
  for (uint64_t at = 0; at < pock_artifact.state_bytes; at += CHUNK_BYTES) {
    uint64_t left = pock_artifact.state_bytes - at;
    size_t count = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    if (read_all(file, chunk, count, pock_artifact.checkpoint_data_offset + at))
      return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
    pock_sha256_add(&hash, chunk, count);
  }
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
    return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
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
  if (read_all(file, session->state, pock_artifact.state_bytes, pock_artifact.checkpoint_data_offset))
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
  if (file < 0) return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
  code = load_from(session, path, file);
  close(file);
  if (!code)
    pock_say(session, POCK_LOG_INFO, "goes on from step %llu of %s", (unsigned long long)session->progress.step, path);
  return code;
}
