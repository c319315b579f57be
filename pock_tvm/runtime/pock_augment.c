#include "pock_augment.h"

#include <string.h>

#include "pock_order.h"

#define STREAM 1 /* second word of the key; that of the order of samples is 0 */
#define MOST 65535

const char *pock_augmentation_read(pock_augmentation *augmentation, const char *text) {
  memset(augmentation, 0, sizeof *augmentation);
  while (*text) {
    size_t length = strcspn(text, ",");
    if (length == 4 && !strncmp(text, "flip", 4)) {
      augmentation->flip = 1;
    } else if (length > 5 && !strncmp(text, "crop=", 5)) {
      augmentation->crop = 0;
      for (size_t i = 5; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return "not crop=PIXELS, flip or both: ";
        augmentation->crop = augmentation->crop * 10 + (text[i] - '0');
        if (augmentation->crop > MOST) return "pictures are not moved so far: ";
      }
    } else if (length) {
      return "not crop=PIXELS, flip or both: ";
    }
    text += length + (text[length] == ',');
  }
  return NULL;
}

/* new[i] = old[i + by], the first or last item where there is none; in place */
static void shift(unsigned char *at, uint64_t count, size_t item, int64_t by) {
  uint64_t far = (uint64_t)(by < 0 ? -by : by);
  if (far > count - 1) far = count - 1;
  size_t kept = (size_t)(count - far) * item;
  if (by < 0) memmove(at + far * item, at, kept);
  if (by > 0) memmove(at, at + far * item, kept);
  for (uint64_t i = 1; i < far; i++)
    memcpy(at + (by < 0 ? i : count - 1 - i) * item, at + (by < 0 ? 0 : count - 1) * item, item);
}

static void mirror(unsigned char *at, uint64_t count, size_t item) {
  for (uint64_t i = 0; i < count / 2; i++) {
    unsigned char *left = at + i * item, *right = at + (count - 1 - i) * item;
    for (size_t byte = 0; byte < item; byte++) {
      unsigned char held = left[byte];
      left[byte] = right[byte];
      right[byte] = held;
    }
  }
}

void pock_augment(const pock_augmentation *augmentation, const pock_picture *picture, uint64_t seed, uint64_t position,
                  unsigned char *pixels) {
  const uint64_t counter[4] = {1, position, 0, 0}, key[2] = {seed, STREAM};
  uint64_t words[4], places = 2 * (uint64_t)augmentation->crop + 1;
  pock_philox(counter, key, words);
  int64_t down = (int64_t)(words[0] % places) - augmentation->crop;
  int64_t right = (int64_t)(words[1] % places) - augmentation->crop;
  int mirrored = augmentation->flip && (words[2] & 1);
  size_t row = (size_t)(picture->width * picture->pixel_bytes), item = (size_t)picture->pixel_bytes;
  for (uint64_t plane = 0; plane < picture->planes; plane++, pixels += picture->height * row) {
    shift(pixels, picture->height, row, down);
    for (uint64_t y = 0; y < picture->height; y++) {
      shift(pixels + y * row, picture->width, item, right);
      if (mirrored) mirror(pixels + y * row, picture->width, item);
    }
  }
}
