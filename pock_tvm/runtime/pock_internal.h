/* What the files of the runtime share: the generated tables, the session, the pieces of each file. */
#ifndef POCK_INTERNAL_H
#define POCK_INTERNAL_H

/* pread, fsync, MAP_ANONYMOUS: declared only on request under -std=c11 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1
#endif

/* Without an operating system there are no threads and no files: pock_bare.c answers for them. */
#if defined(__unix__) || defined(__APPLE__)
#define POCK_SYSTEM 1
#include <pthread.h>
#else
#define POCK_SYSTEM 0
#endif
#include <stdarg.h>
#include <stdatomic.h>

#include "pock.h"
#include "pock_augment.h"

/* ---- tables of the artifact, defined in the generated pock_artifact.c ---- */

enum { POCK_FROZEN, POCK_STATE, POCK_ARENA };
enum { POCK_TRAIN_STEP, POCK_EVALUATE, POCK_PREDICT, POCK_ACCUMULATE, POCK_ENTRIES };

typedef struct {
  const char *name;
  uint64_t offset, bytes; /* in its region */
  uint8_t region, role, dtype, item_bytes;
  uint8_t has_limit, has_ignore;
  uint8_t read_by; /* bit i: filled before a call of entry point i */
  int64_t limit, ignore;
} pock_tensor_row;

typedef struct {
  int32_t (*call)(void *frozen, void *state, void *arena); /* NULL where the artifact was built without it */
  int32_t loss, correct, learning_rate;                    /* rows of the well-known tensors, -1 where absent */
} pock_entry_row;

/* Where kernels run that the processor does not run itself; each session has one. */
typedef struct {
  size_t (*bytes)(void); /* that it keeps behind the session */
  int (*start)(pock_session *session);
  void (*stop)(pock_session *session); /* of one that was started, or failed to */
} pock_device;

typedef struct {
  const char *id, *model, *target;
  const pock_device *device; /* NULL: the processor runs the kernels */
  const char *cpu_features; /* that the kernels may use, by Linux' names, a space after each */
  uint64_t frozen_bytes, state_bytes, trainable_bytes, arena_bytes, workspace_bytes_per_thread;
  uint64_t batch;
  uint64_t accumulate;  /* micro-batches in an optimizer step */
  int32_t accumulated;  /* row of the count of those that wait for it, -1 where there is none */
  uint32_t tensor_count;
  const pock_tensor_row *tensors;
  pock_entry_row entries[POCK_ENTRIES];
  /* weights.safetensors */
  uint64_t weights_bytes, weights_data_offset;
  uint8_t weights_sha256[32];
  /* Start of every checkpoint: identical but for four fields of fixed width, which stand at these offsets. */
  const char *checkpoint_start;
  uint64_t checkpoint_start_bytes, checkpoint_data_offset; /* the gap between the two is filled with spaces */
  uint64_t step_at, cursor_at, seed_at, sha256_at;
  /* one record of a data file */
  uint64_t record_bytes;
  uint32_t record_layout; /* CRC-32 of names, dtypes and shapes */
  pock_picture picture;
} pock_artifact_table;

extern const pock_artifact_table pock_artifact;
extern const pock_device pock_device_driver; /* in the file of the driver, where the target has one */

/* ---- the machine ---- */

#define POCK_MAX_CORES 256

typedef struct {
  uint64_t bits[POCK_MAX_CORES / 64];
} pock_core_set;

typedef struct {
  int number;
  uint64_t speed; /* in a unit that all cores of a machine share; 0 where nothing is known */
} pock_core;

/* Compare what the kernels need with what this processor has. */
int pock_check_machine(pock_session *session);

/* Does it have a feature, by Linux' name? Also 0 for names that the runtime does not know. */
int pock_has_feature(const char *name);

/* Fill `cores` with those that are allowed, fastest first, and return how many; `root` is /sys but for tests. */
int pock_rank_cores(const char *root, const pock_core_set *allowed, pock_core cores[POCK_MAX_CORES]);

/* How many from the start of the ranking are at least half as fast as the first. */
int pock_fast_cores(const pock_core *cores, int count);

/* How many cores this process may use, at least 1. */
int pock_usable_cores(void);

/* Decide where each thread of the session shall run; leaves nothing pinned by itself. */
void pock_place_threads(pock_session *session, const char *root, int affinity);

/* Give the thread that started the session the cores that it had before. */
void pock_release_starter(pock_session *session);

/* Of the calling thread; -1 where the system has no such thing. */
int pock_get_cores(pock_core_set *set);
int pock_set_cores(const pock_core_set *set);

/* ---- threads and their workspaces ---- */

typedef struct {
  int32_t (*call)(int task, void *group, void *closure);
  void *closure;
  int tasks;
} pock_job;

typedef struct {
  pock_session *session;
  unsigned char *workspace; /* a stack of its own at the end of the arena */
  uint64_t used;
  int index;
  int inside; /* runs a task: a launch from here is nested and stays serial */
#if POCK_SYSTEM
  pthread_t thread;
  int placed; /* runs on `cores` only */
  pock_core_set cores;
#endif
} pock_worker;

#define POCK_WORKERS (POCK_SYSTEM ? POCK_MAX_THREADS : 1)

/* The worker that this thread is, or NULL outside of a call. initial-exec: glibc would otherwise allocate the
 * variable at its first use in each thread. */
#if !POCK_SYSTEM
#define POCK_TLS
#elif defined(__GLIBC__)
#define POCK_TLS _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define POCK_TLS _Thread_local
#endif
extern POCK_TLS pock_worker *pock_current;

struct pock_session {
  unsigned char *frozen, *state, *arena;
  int max_threads, threads;
  pock_progress progress;
  void *device;  /* of an artifact that has one: its driver's part behind the session */
  void *mapping; /* of the weights file, when pock_open made it */
  size_t mapping_bytes;

  pock_worker workers[POCK_WORKERS]; /* the first one is the calling thread */
#if POCK_SYSTEM
  pock_job job;
  pthread_mutex_t mutex;
  pthread_cond_t wake, done;
  atomic_uint launch;  /* counts launches: a change is the signal to start */
  atomic_int pending;  /* workers that have not finished the job */
  atomic_int job_error;
  int stopping, locks, spins;

  pthread_t starter;          /* the thread that started the session, and */
  pock_core_set starter_cores; /* where it ran before */
#endif

  pock_log log;
  void *log_context;
  atomic_flag error_taken; /* the first of several failing threads writes the message */
  char error[512];
};

int pock_threads_start(pock_session *session, int threads);
void pock_threads_stop(pock_session *session);
void pock_workspace_reset(pock_session *session);

/* ---- errors: the first message of a call wins, since what follows is its consequence ---- */

void pock_error_clear(pock_session *session);
int pock_fail(pock_session *session, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void pock_say(pock_session *session, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* vsnprintf for the conversions that messages use, where the C library's would want a heap. */
int pock_format(char *to, size_t size, const char *format, va_list arguments);

/* An error of a call that has no session to keep it: pock_last_error(NULL) tells. The message is a constant. */
int pock_fail_without_session(int code, const char *message);

/* The start of every call: forget the last error, refuse a session that is missing or closed. */
int pock_ready(pock_session *session);

/* The start of pock_init and pock_open: an empty session on a machine that can run the kernels. */
int pock_begin(pock_session *session, const pock_setup *setup);

/* The rest of it: check the regions, place and start the threads. */
int pock_start(pock_session *session, const pock_setup *setup, const void *frozen);

/* ---- files ---- */

typedef struct {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
} pock_sha256;

void pock_sha256_start(pock_sha256 *hash);
void pock_sha256_add(pock_sha256 *hash, const void *from, size_t bytes);
void pock_sha256_end(pock_sha256 *hash, uint8_t digest[32]);

/* Do it by instructions of the processor; 0, and nothing is done, where it has none. */
int pock_sha256_fast(uint32_t state[8], const uint8_t *from, size_t blocks, const uint32_t constants[64]);

/* Open a file that holds something, and tell its size; -1 with errno set when it cannot be. */
int pock_open_file(const char *path, uint64_t *bytes);
void pock_close_file(int file);
void pock_unmap_file(const void *mapping, size_t bytes);

/* Read bytes at a place, or add them to a hash; -1 with errno set when they cannot all be read. Mapped, the pages would
 * count as memory of this process, and a system that maps 2 MB at once would keep them. */
int pock_read_at(int file, void *to, size_t bytes, uint64_t at);
int pock_hash_file(pock_sha256 *hash, int file, uint64_t from, uint64_t bytes);

#endif
