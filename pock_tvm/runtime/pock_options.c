/* The command line of pock_train. */
#include "pock_options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: pock_train train    --weights FILE --data FILE --steps N --lr X [--threads T]\n"
    "                           [--schedule NAME:OPTION=VALUE,...] [--total-steps M]\n"
    "                           [--seed S] [--in-order] [--augment crop=PIXELS,flip]\n"
    "                           [--checkpoint OUT] [--save-every K] [--resume IN]\n"
    "       pock_train evaluate --weights FILE --data FILE [--threads T] [--resume IN]\n"
    "       pock_train predict  --weights FILE --data FILE [--threads T] [--resume IN] [--output FILE]\n";

int pock_misused(const char *what, const char *about) {
  fprintf(stderr, "pock_train: %s%s\n%s", what, about, usage);
  return 2;
}

static int read_count(const char *text, long *value) {
  char *end;
  *value = strtol(text, &end, 10);
  return *end || end == text || *value < 1 || *value == LONG_MAX;
}

static int read_seed(const char *text, uint64_t *value) {
  char *end;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return *end || end == text || *text < '0' || *text > '9' || errno;
}

int pock_read_options(int count, char **words, pock_options *o) {
  const struct {
    const char *name;
    const char **text;
    long *number;
  } known[] = {{"--weights", &o->weights, NULL},       {"--data", &o->data, NULL},
               {"--checkpoint", &o->checkpoint, NULL}, {"--resume", &o->resume, NULL},
               {"--output", &o->output, NULL},         {"--steps", NULL, &o->steps},
               {"--threads", NULL, &o->threads},       {"--save-every", NULL, &o->save_every},
               {"--schedule", &o->schedule, NULL},     {"--total-steps", NULL, &o->total_steps},
               {"--augment", &o->augment, NULL}};
  for (int i = 2; i < count; i += 2) {
    if (!strcmp(words[i], "--in-order")) {
      o->in_order = 1;
      i--;
      continue;
    }
    if (i + 1 >= count) return pock_misused("no value after ", words[i]);
    size_t k = 0, all = sizeof known / sizeof *known;
    while (k < all && strcmp(words[i], known[k].name)) k++;
    if (k < all && known[k].text) {
      *known[k].text = words[i + 1];
    } else if (k < all) {
      if (read_count(words[i + 1], known[k].number)) return pock_misused("not a positive number after ", words[i]);
    } else if (!strcmp(words[i], "--seed")) {
      if (read_seed(words[i + 1], &o->seed)) return pock_misused("not a whole number from 0 after ", words[i]);
      o->has_seed = 1;
    } else if (!strcmp(words[i], "--lr")) {
      char *end;
      o->rate = strtod(words[i + 1], &end);
      if (*end || end == words[i + 1]) return pock_misused("not a number after ", words[i]);
      o->has_rate = 1;
    } else {
      return pock_misused("no such option: ", words[i]);
    }
  }
  const char *wrong = pock_schedule_read(&o->shape, o->schedule ? o->schedule : "constant");
  if (wrong) return pock_misused(wrong, o->schedule);
  if (o->augment && (wrong = pock_augmentation_read(&o->augmentation, o->augment)))
    return pock_misused(wrong, o->augment);
  if (!o->weights || !o->data) return pock_misused("--weights and --data are needed", "");
  return 0;
}
