/* libFuzzer over one reader, named by the variable READER: weights, checkpoint, data or schedule. */
#include "readers.h"

int LLVMFuzzerInitialize(int *count, char ***words);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t count, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t most, unsigned seed);

static size_t reader;

int LLVMFuzzerInitialize(int *count, char ***words) {
  (void)count, (void)words;
  const char *name = getenv("READER");
  while (name && reader < 4 && strcmp(readers[reader].name, name)) reader++;
  MUST(name && reader < 4);
  readers_start();
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
  readers[reader].read(bytes, count);
  return 0;
}

/* Seven changes of eight get a right hash: without it none would ever be looked at. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t most, unsigned seed) {
  count = LLVMFuzzerMutate(bytes, count, most);
  if (seed % 8) readers[reader].repair(bytes, count);
  return count;
}
