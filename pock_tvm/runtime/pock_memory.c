/* Start from weights that lie in memory: a program without files has them in flash. */
#include "pock_internal.h"

#include <string.h>

static int check_weights(pock_session *session, const void *weights, size_t bytes, int verify) {
  if (!weights) return pock_fail(session, POCK_ERROR_MEMORY, "the weights are missing: they are NULL");
  if (bytes != pock_artifact.weights_bytes)
    return pock_fail(session, POCK_ERROR_MEMORY, "the weights have %llu bytes, not %llu: truncated, or of another artifact",
                     (unsigned long long)bytes, (unsigned long long)pock_artifact.weights_bytes);
  if (!verify) return POCK_OK;
  pock_sha256 hash;
  uint8_t digest[32];
  pock_sha256_start(&hash);
  pock_sha256_add(&hash, weights, bytes);
  pock_sha256_end(&hash, digest);
  if (memcmp(digest, pock_artifact.weights_sha256, sizeof digest))
    return pock_fail(session, POCK_ERROR_MEMORY,
                     "the weights do not have the SHA-256 of this artifact's: damaged, or of another artifact");
  return POCK_OK;
}

int pock_open_memory(pock_session *session, const void *weights, size_t bytes, const pock_setup *setup) {
  int code = pock_begin(session, setup);
  if (!code) code = check_weights(session, weights, bytes, !setup->trust_weights);
  if (code) return code;
  const unsigned char *frozen = (const unsigned char *)weights + pock_artifact.weights_data_offset;
  code = pock_start(session, setup, frozen);
  if (code) return code;
  size_t trainable = (size_t)pock_artifact.trainable_bytes, all = (size_t)pock_artifact.state_bytes;
  memcpy(session->state, frozen + pock_artifact.frozen_bytes, trainable);
  memset(session->state + trainable, 0, all - trainable);
  return POCK_OK;
}
