/* What training does to pictures: augmentation.py, for the standalone executable. */
#ifndef POCK_AUGMENT_H
#define POCK_AUGMENT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  int64_t crop; /* pixels that a picture is moved by at most */
  int flip;     /* mirror half of them */
} pock_augmentation;

/* How a sample's pixels lie in memory; no planes: the artifact takes no picture. */
typedef struct {
  uint32_t tensor; /* its row */
  uint64_t planes, height, width, pixel_bytes;
} pock_picture;

/* Read `crop=4,flip`; what is wrong, or NULL. */
const char *pock_augmentation_read(pock_augmentation *augmentation, const char *text);

/* Move and mirror, in place, the picture that a run draws at `position`. */
void pock_augment(const pock_augmentation *augmentation, const pock_picture *picture, uint64_t seed, uint64_t position,
                  unsigned char *pixels);

#endif
