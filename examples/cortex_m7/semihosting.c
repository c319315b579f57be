/* A console by semihosting (Arm's specification, version 3.0): a debugger or an emulator writes what the program says. */
#include "board.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

_Noreturn void leave(int code);

static void ask(uint32_t what, const void *argument) {
  register uint32_t r0 __asm__("r0") = what;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void print(const char *text) { ask(SYS_WRITE0, text); }

void leave(int code) {
  const uint32_t words[2] = {APPLICATION_EXIT, (uint32_t)code};
  ask(SYS_EXIT_EXTENDED, words);
  for (;;) {
  }
}

void print_number(uint32_t value) {
  char text[11], *at = text + sizeof text - 1;
  *at = 0;
  do *--at = (char)('0' + value % 10);
  while (value /= 10);
  print(at);
}

void print_float(float value) {
  union {
    float value;
    uint32_t bits;
  } word = {value};
  uint32_t fraction = word.bits << 1 & 0xffffff;
  char digits[7] = {0};
  for (int i = 5; i >= 0; i--, fraction >>= 4) digits[i] = "0123456789abcdef"[fraction & 15];
  int exponent = (int)(word.bits >> 23 & 255) - 127, normal = exponent > -127;
  if (!normal) exponent++;
  if (word.bits >> 31) print("-");
  print(normal ? "0x1." : "0x0.");
  print(digits);
  print(exponent < 0 ? "p-" : "p+");
  print_number((uint32_t)(exponent < 0 ? -exponent : exponent));
}
