/* Sessions: start and stop, the entry points, tensors by name, errors. */
#include "pock_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const entry_names[POCK_ENTRIES] = {"train_step", "evaluate", "predict", "accumulate"};

const char *pock_artifact_id(void) { return pock_artifact.id; }
size_t pock_session_bytes(void) { return sizeof(pock_session); }
size_t pock_frozen_bytes(void) { return pock_artifact.frozen_bytes; }
size_t pock_state_bytes(void) { return pock_artifact.state_bytes; }

size_t pock_arena_bytes(int threads) {
  if (threads < 1) threads = 1;
  return pock_artifact.arena_bytes + (size_t)threads * pock_artifact.workspace_bytes_per_thread;
}

/* ---- errors ---- */

const char *pock_last_error(const pock_session *session) { return session->error; }

void pock_error_clear(pock_session *session) {
  session->error[0] = 0;
  atomic_flag_clear(&session->error_taken);
}

int pock_fail(pock_session *session, int code, const char *format, ...) {
  if (!atomic_flag_test_and_set(&session->error_taken)) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(session->error, sizeof session->error, format, arguments);
    va_end(arguments);
  }
  return code;
}

/* Kernels report failed assertions through these two names of TVM's FFI; hidden, so that a TVM in the same process
 * keeps its own. */
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  if (pock_current) pock_fail(pock_current->session, POCK_ERROR_KERNEL, "%s: %s", kind, message);
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  char message[384];
  size_t used = 0;
  message[0] = 0;
  for (int32_t i = 0; i < count && used < sizeof message - 1; i++) {
    if (!parts[i]) continue;
    int wrote = snprintf(message + used, sizeof message - used, "%s", parts[i]);
    if (wrote > 0) used += (size_t)wrote;
  }
  TVMFFIErrorSetRaisedFromCStr(kind, message);
}

/* ---- start and stop ---- */

static int misaligned(const void *pointer, uint64_t bytes) {
  return bytes && (!pointer || (uintptr_t)pointer % POCK_ALIGNMENT);
}

int pock_init(pock_session *session, const void *frozen, void *state, void *arena, int threads) {
  memset(session, 0, sizeof *session);
  pock_error_clear(session);
  if (threads < 1 || threads > POCK_MAX_THREADS)
    return pock_fail(session, POCK_ERROR_ARGUMENT, "%d threads asked for; 1 to %d work", threads, POCK_MAX_THREADS);
  if (misaligned(frozen, pock_artifact.frozen_bytes) || misaligned(state, pock_artifact.state_bytes) ||
      misaligned(arena, pock_arena_bytes(threads)))
    return pock_fail(session, POCK_ERROR_ARGUMENT, "a region is missing or not aligned to %d bytes", POCK_ALIGNMENT);
  session->frozen = (unsigned char *)(uintptr_t)frozen; /* entry points take void *, but never write here */
  session->state = state;
  session->arena = arena;
  session->max_threads = threads;
  for (int i = 0; i < threads; i++) {
    session->workers[i].session = session;
    session->workers[i].index = i;
    session->workers[i].workspace =
        session->arena + pock_artifact.arena_bytes + (size_t)i * pock_artifact.workspace_bytes_per_thread;
  }
  int code = pock_threads_start(session, threads);
  if (code) session->frozen = session->state = session->arena = NULL;
  return code;
}

void pock_shutdown(pock_session *session) {
  pock_threads_stop(session);
  pock_unmap_file(session->mapping, session->mapping_bytes);
  session->mapping = NULL;
  session->frozen = session->state = session->arena = NULL;
}

int pock_set_threads(pock_session *session, int threads) {
  pock_error_clear(session);
  if (threads < 1 || threads > session->max_threads)
    return pock_fail(session, POCK_ERROR_ARGUMENT, "%d threads asked for; the session was started with %d", threads,
                     session->max_threads);
  if (threads == session->threads) return POCK_OK;
  pock_threads_stop(session);
  return pock_threads_start(session, threads);
}

void pock_get_progress(const pock_session *session, pock_progress *progress) { *progress = session->progress; }
void pock_set_progress(pock_session *session, const pock_progress *progress) { session->progress = *progress; }

/* ---- tensors ---- */

static unsigned char *address(const pock_session *session, const pock_tensor_row *row) {
  unsigned char *const bases[] = {session->frozen, session->state, session->arena};
  return bases[row->region] + row->offset;
}

void *pock_tensor(pock_session *session, const char *name, size_t *bytes) {
  if (!session->arena) return NULL;
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (strcmp(row->name, name)) continue;
    if (bytes) *bytes = (size_t)row->bytes;
    return address(session, row);
  }
  return NULL;
}

/* Kernels index memory by token ids and labels without looking: nothing out of range may reach them. */
static int check_integers(pock_session *session, const pock_tensor_row *row) {
  const unsigned char *from = address(session, row);
  uint64_t count = row->bytes / row->item_bytes;
  for (uint64_t i = 0; i < count; i++) {
    int64_t value;
    if (row->item_bytes == 8) {
      memcpy(&value, from + 8 * i, 8);
    } else {
      int32_t narrow;
      memcpy(&narrow, from + 4 * i, 4);
      value = narrow;
    }
    if ((value >= 0 && value < row->limit) || (row->has_ignore && value == row->ignore)) continue;
    return pock_fail(session, POCK_ERROR_BATCH, "%s[%llu] (flat) is %lld; valid are 0 to %lld", row->name,
                     (unsigned long long)i, (long long)value, (long long)row->limit - 1);
  }
  return POCK_OK;
}

/* ---- entry points ---- */

static const pock_tensor_row *row_at(int32_t index) { return index < 0 ? NULL : &pock_artifact.tensors[index]; }

static void copy_out(const pock_session *session, int32_t index, void *to, size_t bytes) {
  const pock_tensor_row *row = row_at(index);
  if (row && to) memcpy(to, address(session, row), bytes);
}

static int call_entry(pock_session *session, int which) {
  const pock_entry_row *entry = &pock_artifact.entries[which];
  pock_error_clear(session);
  if (!session->arena) return pock_fail(session, POCK_ERROR_ARGUMENT, "the session is closed");
  if (!entry->call)
    return pock_fail(session, POCK_ERROR_ARGUMENT, "the artifact was compiled without %s", entry_names[which]);
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    int code = row->has_limit && (row->read_by >> which & 1) ? check_integers(session, row) : POCK_OK;
    if (code) return code;
  }
  pock_workspace_reset(session);
  pock_worker *outer = pock_current;
  pock_current = &session->workers[0];
  int32_t code = entry->call(session->frozen, session->state, session->arena);
  pock_current = outer;
  if (code) return pock_fail(session, POCK_ERROR_KERNEL, "a kernel of %s failed with code %d", entry_names[which], code);
  return POCK_OK;
}

int pock_micro_batches(void) { return (int)pock_artifact.accumulate; }

int pock_waiting(const pock_session *session) {
  const pock_tensor_row *row = row_at(pock_artifact.accumulated);
  int32_t count = 0;
  if (row && session->state) memcpy(&count, address(session, row), sizeof count);
  return count;
}

/* What is not finite must not reach the next step, nor a checkpoint. */
static void drop_accumulated(pock_session *session) {
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++) {
    const pock_tensor_row *row = &pock_artifact.tensors[i];
    if (row->role == POCK_ACCUMULATOR || (int32_t)i == pock_artifact.accumulated)
      memset(address(session, row), 0, (size_t)row->bytes);
  }
}

static int check_loss(pock_session *session, float loss) {
  if (isfinite(loss)) return POCK_OK;
  drop_accumulated(session);
  return pock_fail(session, POCK_ERROR_DIVERGED, "the loss of step %llu is %f; lower the learning rate",
                   (unsigned long long)session->progress.step + 1, (double)loss);
}

int pock_accumulate(pock_session *session, float *loss) {
  int code = call_entry(session, POCK_ACCUMULATE);
  if (code) return code;
  float value = 0;
  copy_out(session, pock_artifact.entries[POCK_ACCUMULATE].loss, &value, sizeof value);
  if (loss) *loss = value;
  return check_loss(session, value);
}

int pock_train_step(pock_session *session, float learning_rate, float *loss) {
  const pock_entry_row *entry = &pock_artifact.entries[POCK_TRAIN_STEP];
  const pock_tensor_row *rate = row_at(entry->learning_rate);
  if (rate && session->arena) memcpy(address(session, rate), &learning_rate, sizeof learning_rate);
  int code = call_entry(session, POCK_TRAIN_STEP);
  if (code) return code;
  float value = 0;
  copy_out(session, entry->loss, &value, sizeof value);
  if (loss) *loss = value;
  code = check_loss(session, value);
  if (!code) session->progress.step++;
  return code;
}

int pock_evaluate(pock_session *session, float *loss, int32_t *correct) {
  const pock_entry_row *entry = &pock_artifact.entries[POCK_EVALUATE];
  int code = call_entry(session, POCK_EVALUATE);
  if (code) return code;
  if (correct) *correct = -1;
  copy_out(session, entry->loss, loss, sizeof(float));
  copy_out(session, entry->correct, correct, sizeof(int32_t));
  return POCK_OK;
}

int pock_predict(pock_session *session) { return call_entry(session, POCK_PREDICT); }
