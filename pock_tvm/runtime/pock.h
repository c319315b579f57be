/* Train, evaluate and predict with a compiled model; save and resume.
 *
 * The caller owns all memory: it hands a session and three regions to pock_init (or pock_open), and nothing is allocated
 * after that. Sessions share no state, so one library can train several copies of its model at once; calls on one
 * session must not overlap. Every function that returns int returns POCK_OK or an error code, and then pock_last_error
 * holds one line that says what is wrong. Nothing here aborts, whatever it is given. On a machine without an operating
 * system there is one thread, and what takes the name of a file (pock_open, pock_checkpoint_*) is left out.
 */
#ifndef POCK_H
#define POCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(_WIN32)
#define POCK_API __attribute__((visibility("default")))
#else
#define POCK_API
#endif

enum {
  POCK_OK = 0,
  POCK_ERROR_ARGUMENT = 1,  /* no such tensor, thread count or entry point; a caller built with another pock.h */
  POCK_ERROR_BATCH = 2,     /* a token id or label is out of range */
  POCK_ERROR_KERNEL = 3,    /* a kernel failed */
  POCK_ERROR_DIVERGED = 4,  /* the loss or a weight is not finite */
  POCK_ERROR_FILE = 5,      /* a file is damaged, belongs to something else, or cannot be read or written */
  POCK_ERROR_THREADS = 6,   /* the system refused a thread */
  POCK_ERROR_MEMORY = 7,    /* a region is missing, too small or misaligned */
  POCK_ERROR_MACHINE = 8,   /* this processor lacks what the kernels were compiled for */
  POCK_ERROR_DEVICE = 9     /* the GPU's driver is missing, refuses a kernel, or lost the device */
};

#define POCK_ABI 2 /* changes with the meaning of anything in this file */
#define POCK_MAX_THREADS 64
#define POCK_ALIGNMENT 64 /* of the session and of each region */

typedef struct pock_session pock_session;

/* Where a training run stands; a checkpoint carries it. Only `step` is counted by the runtime. */
typedef struct {
  uint64_t step;   /* optimizer steps since the artifact was compiled */
  uint64_t cursor; /* samples that this run has drawn from its data */
  uint64_t seed;   /* of the order in which it draws them */
} pock_progress;

enum { POCK_LOG_ERROR = 1, POCK_LOG_WARNING = 2, POCK_LOG_INFO = 3 };

/* Takes one line without an end of line. It may be called by any thread of the session, and must call nothing here. */
typedef void (*pock_log)(void *context, int level, const char *line);

enum {
  POCK_AFFINITY_AUTO = 0, /* where cores differ much, keep the pool's threads on the fast ones; else do nothing */
  POCK_AFFINITY_NONE = 1, /* leave all threads to the system */
  POCK_AFFINITY_CORES = 2 /* one core for each thread, fast ones first; the thread that starts the session too */
};

/* What a session is started with; fields that are not named may stay zero. */
typedef struct {
  int32_t abi; /* POCK_ABI */
  int32_t threads;
  int32_t affinity;
  int32_t trust_weights; /* pock_open: skip the SHA-256 of the weights, for whoever has compared it already */
  size_t session_bytes;  /* at least pock_session_bytes() */
  const void *frozen;    /* pock_init only: pock_open maps them */
  size_t frozen_bytes;
  void *state; /* pock_init: holds initial values already */
  size_t state_bytes;
  void *arena;
  size_t arena_bytes;
  pock_log log; /* or NULL */
  void *log_context;
} pock_setup;

enum { POCK_FLOAT16, POCK_BFLOAT16, POCK_FLOAT32, POCK_FLOAT64, POCK_INT32, POCK_INT64, POCK_OTHER };

/* What a tensor is for: fill inputs and labels before a call, read outputs after it. */
enum {
  POCK_WEIGHT,
  POCK_OPTIMIZER,
  POCK_STATISTIC,
  POCK_CONSTANT,
  POCK_INPUT,
  POCK_LABEL,
  POCK_HYPER,
  POCK_OUTPUT,
  POCK_COUNTER,
  POCK_ACCUMULATOR
};

typedef struct {
  const char *name;
  size_t bytes;
  int32_t dtype;
  int32_t role;
  int32_t writable; /* 0: a frozen weight */
} pock_tensor_about;

POCK_API int pock_abi(void);

/* SHA-256 of the manifest that the library was built with, in hexadecimal. */
POCK_API const char *pock_artifact_id(void);

POCK_API size_t pock_session_bytes(void);
POCK_API size_t pock_frozen_bytes(void);
POCK_API size_t pock_state_bytes(void);
POCK_API size_t pock_arena_bytes(int threads); /* transients and one workspace per thread */

/* How many threads a step gains from: the cores that this process may use, without those that are much slower. */
POCK_API int pock_suggested_threads(void);

/* Start a session over regions that are filled already. A failed start leaves nothing behind but its message; where the
 * session itself is at fault, pock_last_error(NULL) has it. */
POCK_API int pock_init(pock_session *session, const pock_setup *setup);

/* Start a session from the weights file: map the frozen weights read-only, copy the initial values into the state. The
 * file must stay as it is until pock_shutdown. */
POCK_API int pock_open(pock_session *session, const char *weights, const pock_setup *setup);

/* Start a session from the weights file as it lies in memory, at a multiple of 64: in flash, or mapped by the caller. The
 * frozen weights are read there, so it must stay until pock_shutdown; the initial values are copied into the state. */
POCK_API int pock_open_memory(pock_session *session, const void *weights, size_t bytes, const pock_setup *setup);

/* Join the threads, unmap the weights. The message of the last error stays readable. */
POCK_API void pock_shutdown(pock_session *session);

/* At most as many threads as the session was started with: the arena has a workspace for each. */
POCK_API int pock_set_threads(pock_session *session, int threads);

/* One optimizer step on the batch that lies in the input tensors, and on the micro-batches that pock_accumulate has
 * taken since the last one; the loss is the mean over all of them. */
POCK_API int pock_train_step(pock_session *session, float learning_rate, float *loss);

/* Add the gradient of one micro-batch to those that wait for pock_train_step; `loss` is of this micro-batch alone.
 * The artifact must have been compiled to accumulate. */
POCK_API int pock_accumulate(pock_session *session, float *loss);

/* How many micro-batches a step was compiled to take, 1 without accumulation; how many wait for the next step. */
POCK_API int pock_micro_batches(void);
POCK_API int pock_waiting(const pock_session *session);

/* Loss of one batch; `correct` counts right predictions, or is -1 where the artifact has no such count. */
POCK_API int pock_evaluate(pock_session *session, float *loss, int32_t *correct);

/* Fill the output tensors from the input tensors. */
POCK_API int pock_predict(pock_session *session);

/* Where a tensor lies, or NULL; frozen ones are read-only. Inputs must be written again before each call: the step
 * reuses their bytes. */
POCK_API void *pock_tensor(pock_session *session, const char *name, size_t *bytes);

/* Copy a whole tensor, whose size must be `bytes`; what is frozen cannot be written. */
POCK_API int pock_read_tensor(pock_session *session, const char *name, void *to, size_t bytes);
POCK_API int pock_write_tensor(pock_session *session, const char *name, const void *from, size_t bytes);

/* The tensors by number, 0 to pock_tensor_count() - 1, in the order of the manifest, which has their shapes. */
POCK_API int pock_tensor_count(void);
POCK_API int pock_describe_tensor(pock_session *session, int number, pock_tensor_about *about);

POCK_API void pock_get_progress(const pock_session *session, pock_progress *progress);
POCK_API void pock_set_progress(pock_session *session, const pock_progress *progress);

/* Write the state to a new file, sync it, then rename it over `path`: whatever fails, the old file stays whole. */
POCK_API int pock_checkpoint_save(pock_session *session, const char *path);

/* Check all of a checkpoint, then take over its state; the state is untouched when the check fails. */
POCK_API int pock_checkpoint_load(pock_session *session, const char *path);

/* Of the last call on the session; with NULL, why the last call in this process found no session to write a message into. */
POCK_API const char *pock_last_error(const pock_session *session);

#ifdef __cplusplus
}
#endif
#endif
