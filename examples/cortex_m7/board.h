/* What the board gives a program: a console, and how deep the stack went. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

void print(const char *text);
void print_number(uint32_t value);
void print_float(float value); /* exact, as C writes it in hexadecimal */

uint32_t stack_used(void); /* bytes, the most since the reset */

#endif
