/* The digests of the first 0, 1, … 200 bytes of a pattern, each hashed in two pieces. */
#include <stdio.h>

#include "pock_internal.h"

const pock_artifact_table pock_artifact = {.cpu_features = ""};

int pock_fail(pock_session *session, int code, const char *format, ...) {
  (void)session, (void)format;
  return code;
}

int main(void) {
  unsigned char bytes[200];
  for (int i = 0; i < 200; i++) bytes[i] = (unsigned char)(i * i + 7);
  for (size_t length = 0; length <= 200; length++) {
    pock_sha256 hash;
    uint8_t digest[32];
    pock_sha256_start(&hash);
    pock_sha256_add(&hash, bytes, length / 3);
    pock_sha256_add(&hash, bytes + length / 3, length - length / 3);
    pock_sha256_end(&hash, digest);
    for (int i = 0; i < 32; i++) printf("%02x", digest[i]);
    printf("\n");
  }
  return 0;
}
