/* Train on a Cortex-M7 without an operating system: all memory is laid out by the linker, weights and samples are in flash.
 *
 *   python -m examples.cortex_m7.build net samples.bin program.elf
 *   qemu-system-arm -M mps2-an500 -nographic -semihosting-config enable=on,target=native -kernel program.elf
 */
#include <string.h>

#include "board.h"
#include "pock.h"
#include "pock_sizes.h"

#ifndef LEARNING_RATE
#define LEARNING_RATE 0.001f
#endif

static _Alignas(POCK_ALIGNMENT) unsigned char session_memory[POCK_SESSION_BYTES];
static _Alignas(POCK_ALIGNMENT) unsigned char state[POCK_STATE_BYTES];
static _Alignas(POCK_ALIGNMENT) unsigned char arena[POCK_ARENA_BYTES];

extern const unsigned char pock_weights[], pock_weights_end[];
extern const unsigned char samples[], samples_end[];

static int is_sample(const pock_tensor_about *about) { return about->role == POCK_INPUT || about->role == POCK_LABEL; }

/* Copy one batch to where the step reads it, the tensors in the order of the manifest; return what follows it. */
static const unsigned char *fill(pock_session *session, const unsigned char *from) {
  pock_tensor_about about;
  for (int i = 0; i < pock_tensor_count(); i++) {
    if (pock_describe_tensor(session, i, &about) || !is_sample(&about)) continue;
    memcpy(pock_tensor(session, about.name, NULL), from, about.bytes);
    from += about.bytes;
  }
  return from;
}

static int failed(const pock_session *session) {
  print(pock_last_error(session));
  print("\n");
  return 1;
}

int main(void) {
  pock_session *session = (pock_session *)session_memory;
  const pock_setup setup = {.abi = POCK_ABI,
                            .threads = 1,
                            .session_bytes = sizeof session_memory,
                            .state = state,
                            .state_bytes = sizeof state,
                            .arena = arena,
                            .arena_bytes = sizeof arena};
  if (pock_open_memory(session, pock_weights, (size_t)(pock_weights_end - pock_weights), &setup)) return failed(session);
  for (const unsigned char *next = samples; next < samples_end;) {
    float loss;
    next = fill(session, next);
    if (pock_train_step(session, LEARNING_RATE, &loss)) return failed(session);
    print("loss ");
    print_float(loss);
    print("\n");
  }
  pock_shutdown(session);
  print("stack ");
  print_number(stack_used());
  print(" bytes\n");
  return 0;
}
