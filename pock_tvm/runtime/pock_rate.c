/* The same formulas as learning_rate.py, in the same order, so that both give the same rates. */
#include "pock_rate.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

enum { CONSTANT, LINEAR, COSINE, STEP, POLYNOMIAL, ONE_CYCLE, KINDS };
static const char *const kinds[KINDS] = {"constant", "linear", "cosine", "step", "polynomial", "one-cycle"};

typedef struct {
  const char *name;
  size_t at;      /* in pock_schedule */
  unsigned kinds; /* bit k: an option of kind k */
  double low, high;
  int whole, not_low; /* a whole number; the low end does not count */
} option;

#define DECAYS (1u << LINEAR | 1u << COSINE | 1u << POLYNOMIAL)
static const option known[] = {
    {"warmup", offsetof(pock_schedule, warmup), DECAYS | 1u << CONSTANT | 1u << STEP, 0, 1e15, 1, 0},
    {"end", offsetof(pock_schedule, end), DECAYS, 0, 1, 0, 0},
    {"power", offsetof(pock_schedule, power), 1u << POLYNOMIAL, 0, 1e15, 0, 1},
    {"every", offsetof(pock_schedule, every), 1u << STEP, 0, 1e15, 1, 1},
    {"by", offsetof(pock_schedule, by), 1u << STEP, 0, 1, 0, 1},
    {"rise", offsetof(pock_schedule, rise), 1u << ONE_CYCLE, 0, 1, 0, 0},
    {"first", offsetof(pock_schedule, first), 1u << ONE_CYCLE, 0, 1, 0, 0},
    {"last", offsetof(pock_schedule, last), 1u << ONE_CYCLE, 0, 1, 0, 0},
};

/* Read one `name=value` and return where the next one starts, or NULL. */
static const char *read_option(pock_schedule *schedule, const char *text) {
  const char *equals = strchr(text, '=');
  size_t k = 0, all = sizeof known / sizeof *known, length = equals ? (size_t)(equals - text) : 0;
  while (k < all && (strlen(known[k].name) != length || strncmp(text, known[k].name, length))) k++;
  if (!equals || k == all || !(known[k].kinds >> schedule->kind & 1)) return NULL;
  char *end;
  double value = strtod(equals + 1, &end);
  if (end == equals + 1 || (*end && *end != ',')) return NULL;
  if (!(value >= known[k].low && value <= known[k].high)) return NULL;
  if ((known[k].not_low && value <= known[k].low) || (known[k].whole && floor(value) < value)) return NULL;
  memcpy((char *)schedule + known[k].at, &value, sizeof value);
  return *end ? end + 1 : end;
}

const char *pock_schedule_read(pock_schedule *schedule, const char *text) {
  const pock_schedule fresh = {.power = 2, .by = 0.1, .rise = 0.3, .first = 0.04, .last = 4e-6};
  *schedule = fresh;
  size_t length = strcspn(text, ":");
  while (schedule->kind < KINDS &&
         (strlen(kinds[schedule->kind]) != length || strncmp(text, kinds[schedule->kind], length)))
    schedule->kind++;
  if (schedule->kind == KINDS) return "schedules are constant, linear, cosine, step, polynomial, one-cycle; not ";
  for (const char *next = text[length] ? text + length + 1 : text + length; *next;)
    if (!(next = read_option(schedule, next))) return "a schedule is NAME:OPTION=VALUE,… with options of its own; not ";
  if (schedule->kind == STEP && schedule->every < 1) return "step needs step:every=100; not ";
  return NULL;
}

static double left(const pock_schedule *s, double done) {
  if (s->kind == LINEAR) return 1 - done;
  if (s->kind == COSINE) return (1 + cos(PI * done)) / 2;
  return pow(1 - done, s->power);
}

static double blend(double start, double end, double done) {
  return end + (start - end) * ((1 + cos(PI * done)) / 2);
}

static double one_cycle(const pock_schedule *s, double peak, double step, double total) {
  double top = s->rise * total - 1, bottom = total - 1;
  if (step <= top) return peak * blend(s->first, 1, top > 0 ? step / top : 1);
  double done = bottom > top ? (step - top) / (bottom - top) : 1;
  return peak * blend(1, s->last, done < 1 ? done : 1);
}

double pock_schedule_rate(const pock_schedule *s, double peak, uint64_t step, uint64_t total) {
  double at = (double)step, length = (double)total;
  if (s->kind == ONE_CYCLE) return one_cycle(s, peak, at, length);
  if (at < s->warmup) return peak * (at + 1) / (s->warmup + 1);
  at -= s->warmup;
  length = length - s->warmup > 1 ? length - s->warmup : 1;
  if (s->kind == CONSTANT) return peak;
  if (s->kind == STEP) return peak * pow(s->by, floor(at / s->every));
  double done = at / length < 1 ? at / length : 1;
  return peak * (s->end + (1 - s->end) * left(s, done));
}
