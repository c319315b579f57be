/* memcpy, memset and memcmp come with zig, as part of its compiler-rt. */
#include <string.h>

int strcmp(const char *a, const char *b) {
  for (; *a && *a == *b; a++) b++;
  return (unsigned char)*a - (unsigned char)*b;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}
