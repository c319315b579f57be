/* The thread pool: workers wait for a launch, spinning for a moment before they sleep.
 *
 * A step is hundreds of short launches close together, so a worker that slept after each would spend longer waking up
 * than working. Worker i takes tasks i, i + n, …: the split is fixed, so equal inputs give equal sums on every run.
 */
#include "pock_internal.h"

#include <string.h>

typedef struct { /* the layout that TVM's kernels expect */
  void *sync_handle;
  int32_t num_task;
} parallel_group;

typedef int (*parallel_body)(int task, parallel_group *group, void *closure);

POCK_TLS pock_worker *pock_current;

#define SPINS 4000
#define STACK_BYTES (512 * 1024)

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
  __asm__ volatile("yield");
#endif
}

static int run_tasks(parallel_body body, void *closure, int tasks, int first, int stride) {
  parallel_group group = {NULL, tasks};
  for (int task = first; task < tasks; task += stride) {
    int code = body(task, &group, closure);
    if (code) return code;
  }
  return 0;
}

static void run_share(pock_session *session, pock_worker *worker) {
  worker->inside = 1;
  int code = run_tasks((parallel_body)session->job.call, session->job.closure, session->job.tasks, worker->index,
                       session->threads);
  worker->inside = 0;
  if (code) atomic_store(&session->job_error, code);
}

static unsigned await_launch(pock_session *session, unsigned seen) {
  for (int i = 0; i < session->spins; i++) {
    unsigned now = atomic_load_explicit(&session->launch, memory_order_acquire);
    if (now != seen) return now;
    pause_briefly();
  }
  pthread_mutex_lock(&session->mutex);
  while (atomic_load(&session->launch) == seen) pthread_cond_wait(&session->wake, &session->mutex);
  pthread_mutex_unlock(&session->mutex);
  return atomic_load(&session->launch);
}

static void *work(void *argument) {
  pock_worker *worker = argument;
  pock_session *session = worker->session;
  unsigned seen = 0;
  pock_current = worker;
  if (worker->placed && pock_set_cores(&worker->cores))
    pock_say(session, POCK_LOG_WARNING, "the system refused thread %d its cores", worker->index + 1);
  for (;;) {
    seen = await_launch(session, seen);
    if (session->stopping) return NULL;
    run_share(session, worker);
    if (atomic_fetch_sub(&session->pending, 1) == 1) {
      pthread_mutex_lock(&session->mutex); /* the launcher checks `pending` under it before it sleeps */
      pthread_cond_signal(&session->done);
      pthread_mutex_unlock(&session->mutex);
    }
  }
}

static void release(pock_session *session) {
  pthread_mutex_lock(&session->mutex);
  atomic_fetch_add(&session->launch, 1);
  pthread_cond_broadcast(&session->wake);
  pthread_mutex_unlock(&session->mutex);
}

static void await_workers(pock_session *session) {
  for (int i = 0; i < session->spins; i++) {
    if (!atomic_load_explicit(&session->pending, memory_order_acquire)) return;
    pause_briefly();
  }
  pthread_mutex_lock(&session->mutex);
  while (atomic_load(&session->pending)) pthread_cond_wait(&session->done, &session->mutex);
  pthread_mutex_unlock(&session->mutex);
}

int TVMBackendParallelLaunch(parallel_body body, void *closure, int tasks);
int TVMBackendParallelLaunch(parallel_body body, void *closure, int tasks) {
  pock_worker *caller = pock_current;
  pock_session *session = caller ? caller->session : NULL;
  if (!session || session->threads == 1 || caller->inside) return run_tasks(body, closure, tasks ? tasks : 1, 0, 1);
  if (!tasks) tasks = session->threads;
  if (tasks == 1) return run_tasks(body, closure, 1, 0, 1);
  session->job.call = (int32_t(*)(int, void *, void *))body;
  session->job.closure = closure;
  session->job.tasks = tasks;
  atomic_store(&session->job_error, 0);
  atomic_store(&session->pending, session->threads - 1);
  release(session);
  run_share(session, caller);
  await_workers(session);
  return atomic_load(&session->job_error);
}

/* The code generator leaves these pointers weak and null; kernels call through them. */
int (*__TVMBackendParallelLaunch)(parallel_body, void *, int) = TVMBackendParallelLaunch;

int pock_threads_start(pock_session *session, int threads) {
  session->threads = threads;
  session->stopping = 0;
  session->spins = threads <= pock_usable_cores() ? SPINS : 0; /* else spinning would take the others' core */
  atomic_store(&session->launch, 0);
  atomic_store(&session->pending, 0);
  if (pthread_mutex_init(&session->mutex, NULL) || pthread_cond_init(&session->wake, NULL) ||
      pthread_cond_init(&session->done, NULL))
    return pock_fail(session, POCK_ERROR_THREADS, "the system refused a mutex");
  session->locks = 1;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  int code = 0, started = 1;
  for (; started < threads && !code; started += !code)
    code = pthread_create(&session->workers[started].thread, &attributes, work, &session->workers[started]);
  pthread_attr_destroy(&attributes);
  if (!code) return POCK_OK;
  session->threads = started;
  pock_threads_stop(session);
  return pock_fail(session, POCK_ERROR_THREADS, "the system refused thread %d of %d: %s; ask for fewer", started + 1,
                   threads, strerror(code));
}

void pock_threads_stop(pock_session *session) {
  if (!session->locks) return;
  session->stopping = 1;
  release(session);
  for (int i = 1; i < session->threads; i++) pthread_join(session->workers[i].thread, NULL);
  pthread_mutex_destroy(&session->mutex);
  pthread_cond_destroy(&session->wake);
  pthread_cond_destroy(&session->done);
  session->locks = 0;
  session->threads = 1;
}
