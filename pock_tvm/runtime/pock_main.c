/* pock_train: train, evaluate and predict on a machine that has nothing but this file, the weights and the data.
 *
 * Losses go to stdout, one line per step, then one line of JSON; an error is one line on stderr and exit code 1.
 */
#include "pock_data.h"
#include "pock_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int fail(pock_session *session) {
  fflush(stdout);
  fprintf(stderr, "pock_train: %s\n", pock_last_error(session));
  return 1;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The most memory that this process has had at once, mapped weights that were read included. Linux keeps two figures:
 * that of getrusage remembers who started the program, from before exec. */
static unsigned long long peak_bytes(void) {
  unsigned long long kilobytes = 0;
  char line[128];
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    if (sscanf(line, "VmHWM: %llu kB", &kilobytes) == 1) break;
  if (status) fclose(status);
  if (kilobytes) return kilobytes * 1024;
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage)) return 0;
#ifdef __APPLE__
  return (unsigned long long)usage.ru_maxrss;
#else
  return (unsigned long long)usage.ru_maxrss * 1024;
#endif
}

static void *fresh_memory(size_t bytes) {
  void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

/* ---- train ---- */

/* What a run draws from. */
typedef struct {
  const pock_data *data;
  pock_order order;
  const pock_augmentation *augmentation;
} supply;

/* Fill the inputs with the next batch of records. */
static int draw(pock_session *session, supply *from) {
  pock_progress at;
  pock_get_progress(session, &at);
  return pock_data_draw(session, from->data, &from->order, from->augmentation, at.cursor);
}

static void advance(pock_session *session) {
  pock_progress at;
  pock_get_progress(session, &at);
  at.cursor += pock_artifact.batch;
  pock_set_progress(session, &at);
}

/* All micro-batches of an optimizer step; a checkpoint may have been saved between two of them. */
static int train_step(pock_session *session, supply *from, float rate, float *loss) {
  while (pock_waiting(session) < pock_micro_batches() - 1) {
    int code = draw(session, from);
    if (!code) code = pock_accumulate(session, loss);
    if (code) return code;
    advance(session);
  }
  int code = draw(session, from);
  if (!code) code = pock_train_step(session, rate, loss);
  if (!code) advance(session);
  return code;
}

/* A checkpoint holds the seed of the order and of dropout's masks; a fresh run chooses one. */
static int start_run(pock_session *session, const pock_options *o) {
  pock_progress at;
  pock_get_progress(session, &at);
  if (o->has_seed && at.cursor && at.seed != o->seed) {
    fprintf(stderr, "pock_train: the run was started with seed %llu, not %llu; resume with it\n",
            (unsigned long long)at.seed, (unsigned long long)o->seed);
    return 1;
  }
  if (at.cursor) return 0;
  at.seed = o->seed;
  pock_set_progress(session, &at);
  int64_t *counter = pock_tensor(session, "random.counter", NULL);
  if (counter && !o->resume) *counter = (int64_t)o->seed;
  return 0;
}

static int start_supply(pock_session *session, supply *from, const pock_options *o) {
  pock_progress at;
  pock_get_progress(session, &at);
  from->order.count = from->data->count;
  from->order.seed = at.seed;
  from->augmentation = o->augment ? &o->augmentation : NULL;
  if (o->augment && !pock_artifact.picture.planes) {
    fprintf(stderr, "pock_train: %s takes no single picture: leave --augment out\n", pock_artifact.model);
    return 1;
  }
  if (o->in_order) return 0;
  size_t bytes = pock_order_bytes(from->order.count);
  from->order.draws = fresh_memory(bytes);
  if (from->order.draws) return 0;
  fprintf(stderr, "pock_train: the machine has no %zu bytes of memory left to shuffle in; try --in-order\n", bytes);
  return 1;
}

static int train(pock_session *session, const pock_data *data, const pock_options *o) {
  double start = seconds(), loss_first = 0;
  float loss = 0, rate = 0;
  supply from = {.data = data};
  if (start_run(session, o) || start_supply(session, &from, o)) return 1;
  pock_progress begin;
  pock_get_progress(session, &begin);
  uint64_t before = begin.cursor / (pock_artifact.batch * pock_artifact.accumulate); /* steps that a resumed run has done */
  uint64_t total = o->total_steps ? (uint64_t)o->total_steps : before + (uint64_t)o->steps;
  for (long done = 1; done <= o->steps; done++) {
    pock_progress at;
    rate = (float)pock_schedule_rate(&o->shape, o->rate, before + (uint64_t)done - 1, total);
    if (train_step(session, &from, rate, &loss)) return fail(session);
    pock_get_progress(session, &at);
    printf("step %llu loss %.9g\n", (unsigned long long)at.step, (double)loss);
    if (done == 1) loss_first = (double)loss;
    int due = o->save_every && done % o->save_every == 0;
    if (o->checkpoint && (due || done == o->steps) && pock_checkpoint_save(session, o->checkpoint)) return fail(session);
  }
  double ms = 1e3 * (seconds() - start) / (double)o->steps;
  printf("{\"command\": \"train\", \"steps\": %ld, \"first_loss\": %.9g, \"loss\": %.9g, \"learning_rate\": %.9g, \"step_ms\": %.3f, \"threads\": %d, \"peak_bytes\": %llu}\n",
         o->steps, loss_first, (double)loss, (double)rate, ms, session->threads, peak_bytes());
  return 0;
}

/* ---- evaluate ---- */

static const pock_tensor_row *labels_row(void) {
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++)
    if (pock_artifact.tensors[i].role == POCK_LABEL) return &pock_artifact.tensors[i];
  return NULL;
}

/* Read or, with `value`, overwrite the labels of rows from … to; return how many are not to be ignored. */
static uint64_t visit_labels(pock_session *session, uint64_t from, uint64_t to, const int64_t *value) {
  const pock_tensor_row *row = labels_row();
  uint64_t per_row = row->bytes / row->item_bytes / pock_artifact.batch, valid = 0;
  for (uint64_t i = from * per_row; i < to * per_row; i++) {
    unsigned char *at = session->arena + row->offset + i * row->item_bytes;
    int64_t wide = 0;
    int32_t narrow = value ? (int32_t)*value : 0;
    if (value && row->item_bytes == 8) memcpy(at, value, 8);
    if (value && row->item_bytes == 4) memcpy(at, &narrow, 4);
    if (row->item_bytes == 8) memcpy(&wide, at, 8);
    if (row->item_bytes == 4) memcpy(&narrow, at, 4), wide = narrow;
    valid += !row->has_ignore || wide != row->ignore;
  }
  return valid;
}

typedef struct {
  double loss, weight;
  long long correct;
  int counted;
} tally;

/* A loss without labels compares the samples of a batch with each other: whole batches only. */
static int evaluate_whole(pock_session *session, const pock_data *data, uint64_t first, tally *sum) {
  float loss;
  int32_t correct;
  int code = pock_data_fill(session, data, first, pock_artifact.batch);
  if (!code) code = pock_evaluate(session, &loss, &correct);
  if (code) return code;
  sum->loss += (double)loss;
  sum->weight += 1;
  return POCK_OK;
}

/* Up to a batch of records from `first`. Rows beyond the data are ignored labels or, where the loss ignores none,
 * copies of the last record, and then a batch of nothing else tells what the copies added. */
static int evaluate_piece(pock_session *session, const pock_data *data, uint64_t first, uint64_t real, tally *sum) {
  const pock_tensor_row *row = labels_row();
  uint64_t batch = pock_artifact.batch, missing = batch - real, last = first + real - 1;
  int code = pock_data_fill(session, data, first, real);
  if (!code) code = pock_data_repeat(session, data, last, real);
  if (code) return code;
  if (missing && row->has_ignore) visit_labels(session, real, batch, &row->ignore);
  uint64_t valid = visit_labels(session, 0, real, NULL);
  if (!valid) return POCK_OK;
  float loss, copies_loss;
  int32_t correct, copies_correct;
  code = pock_evaluate(session, &loss, &correct);
  if (code) return code;
  double mean = (double)loss;
  long long right = correct;
  if (missing && !row->has_ignore) {
    code = pock_data_repeat(session, data, last, 0);
    if (!code) code = pock_evaluate(session, &copies_loss, &copies_correct);
    if (code) return code;
    mean = (mean * (double)batch - (double)copies_loss * (double)missing) / (double)real;
    right -= copies_correct * (long long)missing / (long long)batch;
  }
  sum->loss += mean * (double)valid;
  sum->weight += (double)valid;
  sum->correct += right;
  sum->counted = correct >= 0;
  return POCK_OK;
}

static int evaluate(pock_session *session, const pock_data *data) {
  tally sum = {0, 0, 0, 0};
  uint64_t batch = pock_artifact.batch, count = data->count;
  int whole = !labels_row();
  if (whole) count -= count % batch;
  if (!count) {
    fprintf(stderr, "pock_train: the loss is that of a whole batch: the data holds fewer than %llu samples\n",
            (unsigned long long)batch);
    return 1;
  }
  for (uint64_t first = 0; first < count; first += batch) {
    uint64_t real = count - first < batch ? count - first : batch;
    int code = whole ? evaluate_whole(session, data, first, &sum) : evaluate_piece(session, data, first, real, &sum);
    if (code) return fail(session);
  }
  if (sum.weight == 0) {
    fprintf(stderr, "pock_train: every label of the data is one that the loss ignores\n");
    return 1;
  }
  printf("{\"command\": \"evaluate\", \"samples\": %llu, \"loss\": %.9g, \"accuracy\": ", (unsigned long long)count,
         sum.loss / sum.weight);
  if (sum.counted)
    printf("%.9g}\n", (double)sum.correct / sum.weight);
  else
    printf("null}\n");
  return 0;
}

/* ---- predict ---- */

static void print_best(uint64_t sample, const float *row, uint64_t width) {
  uint64_t best = 0;
  for (uint64_t i = 1; i < width; i++)
    if (row[i] > row[best]) best = i;
  printf("sample %llu best %llu value %.9g\n", (unsigned long long)sample, (unsigned long long)best, (double)row[best]);
}

/* Rows go to `output` as raw little-endian values, the largest of each to stdout. */
static int predict(pock_session *session, const pock_data *data, const pock_options *o) {
  size_t bytes = 0;
  const unsigned char *logits = pock_tensor(session, "logits", &bytes);
  FILE *output = o->output ? fopen(o->output, "wb") : NULL;
  if (o->output && !output) {
    fprintf(stderr, "pock_train: cannot write %s\n", o->output);
    return 1;
  }
  uint64_t batch = pock_artifact.batch, row_bytes = bytes / batch;
  int failed = 0;
  for (uint64_t first = 0; first < data->count && !failed; first += batch) {
    uint64_t real = data->count - first < batch ? data->count - first : batch;
    if (pock_data_fill(session, data, first, batch) || pock_predict(session)) {
      if (output) fclose(output);
      return fail(session);
    }
    for (uint64_t row = 0; row < real && logits; row++)
      print_best(first + row, (const float *)(const void *)(logits + row * row_bytes), row_bytes / sizeof(float));
    if (output) failed = fwrite(logits, row_bytes, real, output) != real;
  }
  if (output && (fclose(output) || failed)) {
    fprintf(stderr, "pock_train: cannot write all of %s\n", o->output);
    return 1;
  }
  printf("{\"command\": \"predict\", \"samples\": %llu, \"bytes_per_row\": %llu}\n", (unsigned long long)data->count,
         (unsigned long long)row_bytes);
  return 0;
}

/* ---- main ---- */

static int run(pock_session *session, const char *command, const pock_options *o) {
  pock_data data;
  if (pock_data_open(session, &data, o->data)) return fail(session);
  int code = o->resume && pock_checkpoint_load(session, o->resume) ? fail(session) : 0;
  if (!code && !strcmp(command, "train")) code = train(session, &data, o);
  if (!code && !strcmp(command, "evaluate")) code = evaluate(session, &data);
  if (!code && !strcmp(command, "predict")) code = predict(session, &data, o);
  pock_data_close(&data);
  return code;
}

int main(int count, char **words) {
  pock_options o = {.threads = 0};
  const char *command = count > 1 ? words[1] : "";
  if (strcmp(command, "train") && strcmp(command, "evaluate") && strcmp(command, "predict"))
    return pock_misused("train, evaluate or predict?", "");
  int code = pock_read_options(count, words, &o);
  if (code) return code;
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* whoever follows a run over a pipe sees each step when it is done */
  if (!strcmp(command, "train") && (!o.steps || !o.has_rate)) return pock_misused("--steps and --lr are needed", "");
  if (!o.threads) o.threads = pock_suggested_threads();
  int threads = o.threads > POCK_MAX_THREADS ? POCK_MAX_THREADS : (int)o.threads;
  pock_session *session = fresh_memory(pock_session_bytes());
  void *state = fresh_memory(pock_state_bytes()), *arena = fresh_memory(pock_arena_bytes(threads));
  if (!session || !state || !arena) {
    fprintf(stderr, "pock_train: the machine has no %zu bytes of memory left\n",
            pock_state_bytes() + pock_arena_bytes(threads));
    return 1;
  }
  pock_setup setup = {.abi = POCK_ABI, .threads = threads, .session_bytes = pock_session_bytes()};
  setup.state = state, setup.state_bytes = pock_state_bytes();
  setup.arena = arena, setup.arena_bytes = pock_arena_bytes(threads);
  if (pock_open(session, o.weights, &setup)) return fail(session);
  code = run(session, command, &o);
  pock_shutdown(session);
  return code;
}
