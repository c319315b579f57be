/* An epoch is shuffled by sorting random keys; the counter holds the epoch, so that none has to be gone through to
 * come to a later one. Equal keys stay in the order of the file. */
#include "pock_order.h"

#define ROUNDS 10

/* a * b = 2^64 * high + low, without a type of 128 bits, which 32-bit machines lack */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low) {
  uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffffu);
  *low = a * b;
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

void pock_philox(const uint64_t counter[4], const uint64_t key[2], uint64_t words[4]) {
  uint64_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t low0, low1;
    uint64_t high0 = multiply(UINT64_C(0xd2e7470ee14c6c93), x0, &low0);
    uint64_t high1 = multiply(UINT64_C(0xca5a826395121157), x2, &low1);
    x0 = high1 ^ x1 ^ k0, x1 = low1, x2 = high0 ^ x3 ^ k1, x3 = low0;
    k0 += UINT64_C(0x9e3779b97f4a7c15), k1 += UINT64_C(0xbb67ae8584caa73b);
  }
  words[0] = x0, words[1] = x1, words[2] = x2, words[3] = x3;
}

size_t pock_order_bytes(uint64_t count) {
  return count > SIZE_MAX / sizeof(pock_draw) ? SIZE_MAX : (size_t)count * sizeof(pock_draw);
}

static int before(const pock_draw *a, const pock_draw *b) {
  return a->key < b->key || (a->key == b->key && a->record < b->record);
}

static void sift(pock_draw *heap, uint64_t from, uint64_t count) {
  pock_draw moved = heap[from];
  for (uint64_t child; (child = 2 * from + 1) < count; from = child) {
    if (child + 1 < count && before(&heap[child], &heap[child + 1])) child++;
    if (!before(&moved, &heap[child])) break;
    heap[from] = heap[child];
  }
  heap[from] = moved;
}

/* Heapsort: in place. No two draws are equal, so that it does not matter that it is not stable. */
static void sort(pock_draw *draws, uint64_t count) {
  for (uint64_t i = count / 2; i--;) sift(draws, i, count);
  for (uint64_t last = count; last-- > 1;) {
    pock_draw largest = draws[0];
    draws[0] = draws[last];
    draws[last] = largest;
    sift(draws, 0, last);
  }
}

static void shuffle(pock_order *order, uint64_t epoch) {
  const uint64_t key[2] = {order->seed, 0};
  uint64_t words[4];
  for (uint64_t i = 0; i < order->count; i++) {
    const uint64_t counter[4] = {i / 4 + 1, 0, 0, epoch}; /* numpy counts up before it draws */
    if (i % 4 == 0) pock_philox(counter, key, words);
    order->draws[i].key = words[i % 4];
    order->draws[i].record = i;
  }
  sort(order->draws, order->count);
  order->epoch = epoch;
  order->ready = 1;
}

uint64_t pock_order_at(pock_order *order, uint64_t position) {
  uint64_t epoch = position / order->count, at = position % order->count;
  if (!order->draws) return at;
  if (!order->ready || order->epoch != epoch) shuffle(order, epoch);
  return order->draws[at].record;
}
