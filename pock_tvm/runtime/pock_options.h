/* What the user of pock_train asks for. */
#ifndef POCK_OPTIONS_H
#define POCK_OPTIONS_H

#include "pock_augment.h"
#include "pock_rate.h"

#include <stdint.h>

typedef struct {
  const char *weights, *data, *checkpoint, *resume, *output, *schedule, *augment;
  long steps, total_steps, threads, save_every;
  uint64_t seed;
  double rate;
  int has_rate, has_seed, in_order;
  pock_schedule shape;
  pock_augmentation augmentation;
} pock_options;

/* Read the words after the command; 2, and a line on stderr, where they are wrong. */
int pock_read_options(int count, char **words, pock_options *o);

/* Say what is wrong, and how it is meant; 2. */
int pock_misused(const char *what, const char *about);

#endif
