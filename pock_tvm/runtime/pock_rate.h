/* Learning-rate schedules of pock_train; the formulas are those of learning_rate.py. */
#ifndef POCK_RATE_H
#define POCK_RATE_H

#include <stdint.h>

typedef struct {
  int kind;
  double warmup, end, power, every, by, rise, first, last;
} pock_schedule;

/* Read `cosine:warmup=100,end=0.1`; return NULL, or what is wrong with it. */
const char *pock_schedule_read(pock_schedule *schedule, const char *text);

/* The rate of a step, counted from 0, of a run of `total` steps. */
double pock_schedule_rate(const pock_schedule *schedule, double peak, uint64_t step, uint64_t total);

#endif
