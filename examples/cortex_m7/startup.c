/* From the reset to main: vectors, floating-point unit, memory (Armv7-M ARM B1.5, B3.2.20). */
#include <stdint.h>
#include <string.h>

#include "board.h"

extern uint32_t stack_low[], stack_top[];
extern unsigned char data_start[], data_end[], data_load[], bss_start[], bss_end[];

int main(void);
_Noreturn void leave(int code);
_Noreturn void reset(void);

#define UNTOUCHED 0x5AFE57ACu

static void fault(void) {
  print("fault\n");
  leave(2);
}

typedef union {
  void *stack;
  void (*run)(void);
} vector;

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = stack_top}, {.run = reset}, {.run = fault}, {.run = fault}, {.run = fault}, {.run = fault}, {.run = fault}};

void reset(void) {
#ifndef WITHOUT_FLOATING_POINT /* to see what pock_init says then */
  *(volatile uint32_t *)0xE000ED88u |= 15u << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
  for (uint32_t *word = stack_low; word < (uint32_t *)__builtin_frame_address(0) - 16; word++)
    *(volatile uint32_t *)word = UNTOUCHED;
  memcpy(data_start, data_load, (size_t)(data_end - data_start));
  memset(bss_start, 0, (size_t)(bss_end - bss_start));
  leave(main());
}

uint32_t stack_used(void) {
  const uint32_t *word = stack_low;
  while (word < stack_top && *word == UNTOUCHED) word++;
  return (uint32_t)(stack_top - word) * sizeof *word;
}
