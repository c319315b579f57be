/* Train, evaluate and predict with a compiled model; save and resume.
 *
 * The caller owns all memory: it hands a session and three regions to pock_init (or pock_open), and nothing is allocated
 * after that. Sessions share no state, so one library can train several copies of its model at once; calls on one
 * session must not overlap. Every function that returns int returns POCK_OK or an error code, and then pock_last_error
 * holds one line that says what is wrong.
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
  POCK_ERROR_ARGUMENT = 1,  /* a null or misaligned pointer, no such tensor, thread count or entry point */
  POCK_ERROR_BATCH = 2,     /* a token id or label is out of range */
  POCK_ERROR_KERNEL = 3,    /* a kernel failed */
  POCK_ERROR_DIVERGED = 4,  /* the loss or a weight is not finite */
  POCK_ERROR_FILE = 5,      /* a file is damaged, belongs to something else, or cannot be read or written */
  POCK_ERROR_THREADS = 6    /* the system refused a thread */
};

#define POCK_MAX_THREADS 64
#define POCK_ALIGNMENT 64 /* of the session and of each region */

typedef struct pock_session pock_session;

/* Where a training run stands; a checkpoint carries it. Only `step` is counted by the runtime. */
typedef struct {
  uint64_t step;   /* optimizer steps since the artifact was compiled */
  uint64_t cursor; /* samples that this run has drawn from its data */
  uint64_t seed;   /* of the order in which it draws them */
} pock_progress;

/* SHA-256 of the manifest that the library was built with, in hexadecimal. */
POCK_API const char *pock_artifact_id(void);

POCK_API size_t pock_session_bytes(void);
POCK_API size_t pock_frozen_bytes(void);
POCK_API size_t pock_state_bytes(void);
POCK_API size_t pock_arena_bytes(int threads); /* transients and one workspace per thread */

/* Start a session over regions that are filled already. A failed start leaves nothing behind but its message. */
POCK_API int pock_init(pock_session *session, const void *frozen, void *state, void *arena, int threads);

/* Start a session from the weights file: map the frozen weights read-only, copy the initial values into the state.
 * With `verify`, its SHA-256 is checked first. */
POCK_API int pock_open(pock_session *session, const char *weights, void *state, void *arena, int threads, int verify);

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

POCK_API void pock_get_progress(const pock_session *session, pock_progress *progress);
POCK_API void pock_set_progress(pock_session *session, const pock_progress *progress);

/* Write the state to a new file, sync it, then rename it over `path`: whatever fails, the old file stays whole. */
POCK_API int pock_checkpoint_save(pock_session *session, const char *path);

/* Check all of a checkpoint, then take over its state; the state is untouched when the check fails. */
POCK_API int pock_checkpoint_load(pock_session *session, const char *path);

POCK_API const char *pock_last_error(const pock_session *session);

#ifdef __cplusplus
}
#endif
#endif
