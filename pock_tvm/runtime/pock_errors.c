/* One line for whatever went wrong, and the log. */
#include "pock_internal.h"

#include <string.h>

#if POCK_SYSTEM
#include <stdio.h>
#define pock_format vsnprintf
#endif

/* Of a call that had no session. One for all threads: thread-local room is scarce where a process loads many artifacts. */
static _Atomic(const char *) lost_error = "";

const char *pock_last_error(const pock_session *session) { return session ? session->error : atomic_load(&lost_error); }

void pock_error_clear(pock_session *session) {
  session->error[0] = 0;
  atomic_flag_clear(&session->error_taken);
}

int pock_fail(pock_session *session, int code, const char *format, ...) {
  if (!atomic_flag_test_and_set(&session->error_taken)) {
    va_list arguments;
    va_start(arguments, format);
    pock_format(session->error, sizeof session->error, format, arguments);
    va_end(arguments);
    if (session->log) session->log(session->log_context, POCK_LOG_ERROR, session->error);
  }
  return code;
}

int pock_fail_without_session(int code, const char *message) {
  atomic_store(&lost_error, message);
  return code;
}

void pock_say(pock_session *session, int level, const char *format, ...) {
  if (!session->log) return;
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  pock_format(line, sizeof line, format, arguments);
  va_end(arguments);
  session->log(session->log_context, level, line);
}

int pock_ready(pock_session *session) {
  if (!session) return pock_fail_without_session(POCK_ERROR_ARGUMENT, "there is no session: it is NULL");
  pock_error_clear(session);
  return session->arena ? POCK_OK : pock_fail(session, POCK_ERROR_ARGUMENT, "the session is closed");
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
  for (int32_t i = 0; i < count && used < sizeof message - 1; i++) {
    if (!parts[i]) continue;
    size_t length = strlen(parts[i]), room = sizeof message - 1 - used;
    if (length > room) length = room;
    memcpy(message + used, parts[i], length);
    used += length;
  }
  message[used] = 0;
  TVMFFIErrorSetRaisedFromCStr(kind, message);
}
