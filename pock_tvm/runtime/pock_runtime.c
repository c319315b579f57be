/* What a session does: the entry points, tensors by name, progress. */
#include "pock_internal.h"

#include <math.h>
#include <string.h>

static const char *const entry_names[POCK_ENTRIES] = {"train_step", "evaluate", "predict", "accumulate"};

/* ---- tensors ---- */

static unsigned char *address(const pock_session *session, const pock_tensor_row *row) {
  unsigned char *const bases[] = {session->frozen, session->state, session->arena};
  return bases[row->region] + row->offset;
}

static const pock_tensor_row *find_row(const char *name) {
  for (uint32_t i = 0; i < pock_artifact.tensor_count; i++)
    if (!strcmp(pock_artifact.tensors[i].name, name)) return &pock_artifact.tensors[i];
  return NULL;
}

void *pock_tensor(pock_session *session, const char *name, size_t *bytes) {
  const pock_tensor_row *row = session && session->arena && name ? find_row(name) : NULL;
  if (!row) return NULL;
  if (bytes) *bytes = (size_t)row->bytes;
  return address(session, row);
}

/* Find the tensor of a copy of `bytes` bytes; NULL, and the error is written. */
static unsigned char *whole_tensor(pock_session *session, const char *name, const void *other, size_t bytes, int write) {
  const pock_tensor_row *row = name ? find_row(name) : NULL;
  const char *shown = name ? name : "(null)";
  if (!row) {
    pock_fail(session, POCK_ERROR_ARGUMENT, "the artifact has no tensor %s", shown);
  } else if (bytes != row->bytes) {
    pock_fail(session, POCK_ERROR_ARGUMENT, "%s has %llu bytes, not %llu", shown, (unsigned long long)row->bytes,
              (unsigned long long)bytes);
  } else if (bytes && !other) {
    pock_fail(session, POCK_ERROR_ARGUMENT, "%s cannot be copied to or from NULL", shown);
  } else if (write && row->region == POCK_FROZEN) {
    pock_fail(session, POCK_ERROR_ARGUMENT, "%s is frozen and cannot be written", shown);
  } else {
    return address(session, row);
  }
  return NULL;
}

int pock_read_tensor(pock_session *session, const char *name, void *to, size_t bytes) {
  int code = pock_ready(session);
  if (code) return code;
  const unsigned char *from = whole_tensor(session, name, to, bytes, 0);
  if (!from) return POCK_ERROR_ARGUMENT;
  if (bytes) memcpy(to, from, bytes);
  return POCK_OK;
}

int pock_write_tensor(pock_session *session, const char *name, const void *from, size_t bytes) {
  int code = pock_ready(session);
  if (code) return code;
  unsigned char *to = whole_tensor(session, name, from, bytes, 1);
  if (!to) return POCK_ERROR_ARGUMENT;
  if (bytes) memcpy(to, from, bytes);
  return POCK_OK;
}

int pock_tensor_count(void) { return (int)pock_artifact.tensor_count; }

int pock_describe_tensor(pock_session *session, int number, pock_tensor_about *about) {
  int code = pock_ready(session);
  if (code) return code;
  if (number < 0 || (uint32_t)number >= pock_artifact.tensor_count || !about)
    return pock_fail(session, POCK_ERROR_ARGUMENT, "there is no tensor %d; the artifact has %d", number,
                     pock_tensor_count());
  const pock_tensor_row *row = &pock_artifact.tensors[number];
  about->name = row->name;
  about->bytes = (size_t)row->bytes;
  about->dtype = row->dtype;
  about->role = row->role;
  about->writable = row->region != POCK_FROZEN;
  return POCK_OK;
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
  int ready = pock_ready(session);
  if (ready) return ready;
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
  if (code > 0) return code; /* of a device, which has said why */
  if (code) return pock_fail(session, POCK_ERROR_KERNEL, "a kernel of %s failed with code %d", entry_names[which],
                             (int)code);
  return POCK_OK;
}

int pock_micro_batches(void) { return (int)pock_artifact.accumulate; }

int pock_waiting(const pock_session *session) {
  const pock_tensor_row *row = row_at(pock_artifact.accumulated);
  int32_t count = 0;
  if (row && session && session->state) memcpy(&count, address(session, row), sizeof count);
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
  if (rate && session && session->arena) memcpy(address(session, rate), &learning_rate, sizeof learning_rate);
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

void pock_get_progress(const pock_session *session, pock_progress *progress) {
  const pock_progress none = {0, 0, 0};
  if (progress) *progress = session ? session->progress : none;
}

void pock_set_progress(pock_session *session, const pock_progress *progress) {
  if (session && progress) session->progress = *progress;
}
