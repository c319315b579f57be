/* Stands in for a compiled step: y = x w + b by least squares, SGD with momentum, mean over samples.
 *
 * It does what kernels do: a launch on all threads, a workspace on each, a nested launch, pointers at fixed offsets.
 * Frozen: scale[FEATURES]. State: w[FEATURES], b, then momentum of both. Arena: see the offsets.
 */
#include <stdint.h>
#include <stddef.h>

#define BATCH 4
#define FEATURES 6
#define CLASSES 3

typedef struct { void *sync_handle; int32_t num_task; } group;
typedef int (*body)(int, group *, void *);
__attribute__((weak)) int (*__TVMBackendParallelLaunch)(body, void *, int);
__attribute__((weak)) void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
__attribute__((weak)) int (*__TVMBackendFreeWorkspace)(int, int, void *);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);

enum { X = 0, LABELS = 128, RATE = 192, LOSS = 256, CORRECT = 320, LOGITS = 384, ERROR = 512 };
enum { W = 0, B = 64, W_MOMENTUM = 128, B_MOMENTUM = 192 };

typedef struct { const float *scale, *x, *w; float b; float *out; int nested; } closure;

static int no_op(int task, group *g, void *c) { (void)task, (void)g; ((closure *)c)->nested++; return 0; }

static int forward(int task, group *g, void *argument) {
  closure *c = argument;
  for (int i = task; i < BATCH; i += g->num_task) {
    float *scratch = __TVMBackendAllocWorkspace(1, 0, FEATURES * sizeof(float), 2, 32);
    if (!scratch) return -1;
    for (int k = 0; k < FEATURES; k++) scratch[k] = c->x[i * FEATURES + k] * c->scale[k];
    float sum = c->b;
    for (int k = 0; k < FEATURES; k++) sum += scratch[k] * c->w[k];
    c->out[i] = sum;
    if (__TVMBackendFreeWorkspace(1, 0, scratch)) return -2;
  }
  return 0;
}

static int nested(int task, group *g, void *argument) {
  (void)g;
  if (task) return 0;
  closure mine = *(closure *)argument;
  mine.nested = 0;
  int code = __TVMBackendParallelLaunch(no_op, &mine, 3);
  return code ? code : mine.nested == 3 ? 0 : -3;
}

static float run(const float *frozen, const float *w, float b, char *arena, float *error) {
  closure c = {frozen, (const float *)(arena + X), w, b, error, 0};
  if (__TVMBackendParallelLaunch(forward, &c, 0)) return -1;
  if (__TVMBackendParallelLaunch(nested, &c, 0)) return -1;
  const int32_t *labels = (const int32_t *)(arena + LABELS);
  float loss = 0;
  int valid = 0;
  for (int i = 0; i < BATCH; i++) {
    int skip = labels[i] == -100;
    error[i] = skip ? 0 : error[i] - (float)labels[i];
    valid += !skip;
    loss += error[i] * error[i];
  }
  return loss / (float)valid;
}

int32_t pock_entry_train_step(void *frozen, void *state, void *arena_) {
  char *arena = arena_, *s = state;
  float *w = (float *)(s + W), *b = (float *)(s + B), *wm = (float *)(s + W_MOMENTUM), *bm = (float *)(s + B_MOMENTUM);
  float *error = (float *)(arena + ERROR), rate = *(float *)(arena + RATE);
  const float *x = (const float *)(arena + X), *scale = frozen;
  if (rate == -7.0f) {
    TVMFFIErrorSetRaisedFromCStr("AssertionError", "the rate is minus seven");
    return -1;
  }
  if (rate == -6.0f) return __TVMBackendAllocWorkspace(1, 0, 64, 2, 32) ? -6 : 0; /* fails, and keeps its workspace */
  if (rate == -8.0f) return __TVMBackendAllocWorkspace(1, 0, 1 << 20, 2, 32) ? 0 : -1;
  if (rate == -9.0f) *(volatile float *)frozen = 1; /* a frozen weight must not be writable */
  float loss = run(frozen, w, *b, arena, error);
  if (loss < 0) return -1;
  float db = 0;
  for (int i = 0; i < BATCH; i++) db += error[i] / BATCH;
  for (int k = 0; k < FEATURES; k++) {
    float dw = 0;
    for (int i = 0; i < BATCH; i++) dw += error[i] * x[i * FEATURES + k] * scale[k] / BATCH;
    wm[k] = 0.5f * wm[k] + dw;
    w[k] -= rate * wm[k];
  }
  *bm = 0.5f * *bm + db;
  *b -= rate * *bm;
  *(float *)(arena + LOSS) = loss;
  return 0;
}

int32_t pock_entry_evaluate(void *frozen, void *state, void *arena_) {
  char *arena = arena_, *s = state;
  float *error = (float *)(arena + ERROR);
  float loss = run(frozen, (float *)(s + W), *(float *)(s + B), arena, error);
  const int32_t *labels = (const int32_t *)(arena + LABELS);
  int32_t correct = 0;
  for (int i = 0; i < BATCH; i++) correct += labels[i] != -100 && error[i] < 0.5f && error[i] > -0.5f;
  *(float *)(arena + LOSS) = loss;
  *(int32_t *)(arena + CORRECT) = correct;
  return loss < 0 ? -1 : 0;
}

int32_t pock_entry_predict(void *frozen, void *state, void *arena_) {
  char *arena = arena_, *s = state;
  float *out = (float *)(arena + ERROR), *logits = (float *)(arena + LOGITS);
  closure c = {frozen, (const float *)(arena + X), (float *)(s + W), *(float *)(s + B), out, 0};
  int code = __TVMBackendParallelLaunch(forward, &c, 3); /* a fixed number of tasks, whatever the threads */
  for (int i = 0; i < BATCH; i++)
    for (int k = 0; k < CLASSES; k++) logits[i * CLASSES + k] = -(out[i] - (float)k) * (out[i] - (float)k);
  return code;
}
