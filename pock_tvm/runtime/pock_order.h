/* In which order a run draws its samples: a function of the seed and the position, as sampling.py has it. */
#ifndef POCK_ORDER_H
#define POCK_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four words from a counter. */
void pock_philox(const uint64_t counter[4], const uint64_t key[2], uint64_t words[4]);

typedef struct {
  uint64_t key, record;
} pock_draw;

typedef struct {
  pock_draw *draws; /* of one epoch, at a time; NULL: in the order of the file */
  uint64_t count, seed, epoch;
  int ready;
} pock_order;

/* Memory that an order over `count` records needs. */
size_t pock_order_bytes(uint64_t count);

/* The record at a position of an endless run, which is one shuffled epoch after another. */
uint64_t pock_order_at(pock_order *order, uint64_t position);

#endif
