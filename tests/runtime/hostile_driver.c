/* A good file, cut at every byte and with every byte of its header flipped: each is refused.
 *
 *   hostile_driver READER FILE FLIPPED RIGHT   flip the first FLIPPED bytes; RIGHT: set the hash right afterwards
 *   hostile_driver READER FILE                 is this one file taken?
 */
#include "readers.h"

static unsigned char *good, *bad;
static size_t size;

static void load(const char *path) {
  FILE *file = fopen(path, "rb");
  MUST(file && !fseek(file, 0, SEEK_END));
  size = (size_t)ftell(file);
  rewind(file);
  good = region(size + 1), bad = region(size + 64);
  MUST(fread(good, 1, size, file) == size);
  fclose(file);
}

static void forget(void) {
  const void *all[] = {the_session, spare, before, the_setup.state, the_setup.arena, the_setup.frozen,
                       spare_setup.state, spare_setup.arena, spare_setup.frozen, good, bad};
  pock_shutdown(the_session);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)(uintptr_t)all[i]);
}

int main(int count, char **words) {
  size_t kind = 0;
  while (count > 2 && kind < 4 && strcmp(readers[kind].name, words[1])) kind++;
  if (kind == 4 || (count != 3 && count != 5)) return 2;
  readers_start();
  load(words[2]);
  int taken = readers[kind].read(good, size);
  if (count == 3) {
    printf("%d %s\n", taken, pock_last_error(kind == WEIGHTS ? spare : the_session));
    return forget(), 0;
  }
  MUST(!taken);
  size_t flipped = (size_t)atol(words[3]), refused = 0, accepted = 0;
  int right = atoi(words[4]);
  MUST(flipped <= size);
  for (size_t length = 0; length <= size + 64; length++) { /* longer ones too */
    if (length == size) continue;
    memset(bad, 0, size + 64);
    memcpy(bad, good, length < size ? length : size);
    if (right) readers[kind].repair(bad, length);
    if (!readers[kind].read(bad, length)) MUST(0 && "a file of a wrong length was taken");
    refused++;
  }
  for (size_t at = 0; at < flipped; at++)
    for (int all = 0; all < 2; all++) {
      memcpy(bad, good, size);
      bad[at] ^= (unsigned char)(all ? 0xff : 1 << at % 8); /* one bit, then every bit */
      if (right) readers[kind].repair(bad, size);
      if (!readers[kind].read(bad, size))
        accepted++;
      else
        refused++;
    }
  printf("refused %zu accepted %zu\n", refused, accepted);
  return forget(), 0;
}
