/* .pockdata: a header of 64 bytes, then records; one record is a sample's inputs in manifest order, then its label.
 *
 *   0  "POCKDATA"        12  CRC-32 of names, dtypes and shapes   24  bytes per record
 *   8  version, uint32   16  records, uint64                      32  SHA-256 of bytes 0 to 31 and of all records
 *
 * Numbers are little-endian, as the tensors are.
 */
#include "pock_data.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES 64
#define VERSION 1

static uint64_t little_endian(const unsigned char *from, int bytes) {
  uint64_t value = 0;
  for (int i = bytes; i--;) value = value << 8 | from[i];
  return value;
}

static int cannot_read(pock_session *session, const char *path) {
  return pock_fail(session, POCK_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
}

static int check(pock_session *session, const char *path, int file, uint64_t bytes) {
  unsigned char header[HEADER_BYTES] = {0};
  if (bytes >= HEADER_BYTES && pock_read_at(file, header, HEADER_BYTES, 0)) return cannot_read(session, path);
  if (memcmp(header, "POCKDATA", 8))
    return pock_fail(session, POCK_ERROR_FILE, "%s is not a .pockdata file", path);
  uint64_t version = little_endian(header + 8, 4), layout = little_endian(header + 12, 4);
  uint64_t records = little_endian(header + 16, 8), record_bytes = little_endian(header + 24, 8);
  if (version != VERSION)
    return pock_fail(session, POCK_ERROR_FILE, "%s has version %llu, not %d; write it again", path,
                     (unsigned long long)version, VERSION);
  if (layout != pock_artifact.record_layout || record_bytes != pock_artifact.record_bytes)
    return pock_fail(session, POCK_ERROR_FILE, "%s was written for a model with other inputs or labels than %s", path,
                     pock_artifact.model);
  uint64_t room = bytes - HEADER_BYTES;
  if (!records || !record_bytes || room % record_bytes || room / record_bytes != records)
    return pock_fail(session, POCK_ERROR_FILE, "%s has %llu bytes, not %llu records of %llu: truncated, or empty", path,
                     (unsigned long long)bytes, (unsigned long long)records, (unsigned long long)record_bytes);
  pock_sha256 hash;
  uint8_t digest[32];
  pock_sha256_start(&hash);
  pock_sha256_add(&hash, header, 32);
  if (pock_hash_file(&hash, file, HEADER_BYTES, room)) return cannot_read(session, path);
  pock_sha256_end(&hash, digest);
  if (memcmp(digest, header + 32, sizeof digest))
    return pock_fail(session, POCK_ERROR_FILE, "%s is damaged: its SHA-256 does not match", path);
  return POCK_OK;
}

int pock_data_open(pock_session *session, pock_data *data, const char *path) {
  uint64_t bytes = 0;
  pock_error_clear(session);
  data->path = path;
  data->file = pock_open_file(path, &bytes);
  if (data->file < 0) return cannot_read(session, path);
  int code = check(session, path, data->file, bytes);
  if (code) {
    pock_data_close(data);
    return code;
  }
  data->count = (bytes - HEADER_BYTES) / pock_artifact.record_bytes;
  return POCK_OK;
}

void pock_data_close(pock_data *data) {
  if (data->file >= 0) pock_close_file(data->file);
  data->file = -1;
}

static int read_parts(pock_session *session, const pock_data *data, uint64_t *at, uint64_t row, int role) {
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *tensor = &pock_artifact.tensors[i];
    if (tensor->role != role) continue;
    size_t bytes = (size_t)(tensor->bytes / pock_artifact.batch);
    if (pock_read_at(data->file, session->arena + tensor->offset + row * bytes, bytes, *at))
      return cannot_read(session, data->path);
    *at += bytes;
  }
  return POCK_OK;
}

static int read_record(pock_session *session, const pock_data *data, uint64_t record, uint64_t row) {
  uint64_t at = HEADER_BYTES + record % data->count * pock_artifact.record_bytes;
  int code = read_parts(session, data, &at, row, POCK_INPUT);
  return code ? code : read_parts(session, data, &at, row, POCK_LABEL);
}

int pock_data_fill(pock_session *session, const pock_data *data, uint64_t first, uint64_t rows) {
  int code = POCK_OK;
  for (uint64_t row = 0; row < rows && !code; row++) code = read_record(session, data, first + row, row);
  return code;
}

int pock_data_draw(pock_session *session, const pock_data *data, pock_order *order,
                   const pock_augmentation *augmentation, uint64_t position) {
  const pock_picture *picture = &pock_artifact.picture;
  for (uint64_t row = 0; row < pock_artifact.batch; row++) {
    int code = read_record(session, data, pock_order_at(order, position + row), row);
    if (code) return code;
    if (!augmentation || !picture->planes) continue;
    const pock_tensor_row *tensor = &pock_artifact.tensors[picture->tensor];
    unsigned char *pixels = session->arena + tensor->offset + row * (tensor->bytes / pock_artifact.batch);
    pock_augment(augmentation, picture, order->seed, position + row, pixels);
  }
  return POCK_OK;
}

int pock_data_repeat(pock_session *session, const pock_data *data, uint64_t record, uint64_t from) {
  int code = POCK_OK;
  for (uint64_t row = from; row < pock_artifact.batch && !code; row++) code = read_record(session, data, record, row);
  return code;
}
