/* Start and stop of a session: what its caller hands over is checked before any of it is used. */
#include "pock_internal.h"

#include <string.h>

int pock_abi(void) { return POCK_ABI; }
const char *pock_artifact_id(void) { return pock_artifact.id; }

size_t pock_session_bytes(void) {
  return sizeof(pock_session) + (pock_artifact.device ? pock_artifact.device->bytes() : 0);
}

size_t pock_frozen_bytes(void) { return pock_artifact.frozen_bytes; }
size_t pock_state_bytes(void) { return pock_artifact.state_bytes; }

size_t pock_arena_bytes(int threads) {
  if (threads < 1) threads = 1;
  return pock_artifact.arena_bytes + (size_t)threads * pock_artifact.workspace_bytes_per_thread;
}

static int misaligned(const void *pointer) { return (uintptr_t)pointer % POCK_ALIGNMENT != 0; }

static int check_session(const pock_session *session, const pock_setup *setup) {
  const char *wrong = NULL;
  if (!session || !setup) wrong = session ? "there is no setup: it is NULL" : "there is no session: it is NULL";
  if (!wrong && setup->abi != POCK_ABI)
    wrong = "the caller was compiled with another version of pock.h: use the one in the artifact's folder runtime/";
  if (!wrong && misaligned(session)) wrong = "the session is not aligned to POCK_ALIGNMENT bytes";
  if (!wrong && setup->session_bytes < pock_session_bytes())
    wrong = "the session is too small: it needs as many bytes as pock_session_bytes() returns";
  return wrong ? pock_fail_without_session(POCK_ERROR_MEMORY, wrong) : POCK_OK;
}

int pock_begin(pock_session *session, const pock_setup *setup) {
  int code = check_session(session, setup);
  if (code) return code;
  memset(session, 0, sizeof *session);
  pock_error_clear(session);
  session->log = setup->log;
  session->log_context = setup->log_context;
  if (setup->threads < 1 || setup->threads > POCK_WORKERS)
    return pock_fail(session, POCK_ERROR_ARGUMENT, "%d threads asked for; 1 to %d work", (int)setup->threads,
                     POCK_WORKERS);
  return pock_check_machine(session);
}

typedef struct {
  const char *name;
  const void *at;
  uint64_t has, needs;
} region;

static int check_region(pock_session *session, const region *r) {
  if (!r->needs) return POCK_OK;
  if (!r->at) return pock_fail(session, POCK_ERROR_MEMORY, "the %s region is missing: it is NULL", r->name);
  if (misaligned(r->at))
    return pock_fail(session, POCK_ERROR_MEMORY, "the %s region is not aligned to %d bytes", r->name, POCK_ALIGNMENT);
  if (r->has < r->needs)
    return pock_fail(session, POCK_ERROR_MEMORY, "the %s region has %llu bytes and needs %llu: %llu more", r->name,
                     (unsigned long long)r->has, (unsigned long long)r->needs, (unsigned long long)(r->needs - r->has));
  return POCK_OK;
}

static int overlap(const region *a, const region *b) {
  uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;
  return a->needs && b->needs && x < y + b->needs && y < x + a->needs;
}

/* `frozen` is the caller's or that of a mapping, whose size is known to be right. */
static int check_regions(pock_session *session, const pock_setup *setup, const void *frozen) {
  const region regions[] = {
      {"frozen", frozen, frozen == setup->frozen ? setup->frozen_bytes : UINT64_MAX, pock_artifact.frozen_bytes},
      {"state", setup->state, setup->state_bytes, pock_artifact.state_bytes},
      {"arena", setup->arena, setup->arena_bytes, pock_arena_bytes((int)setup->threads)},
      {"session", session, setup->session_bytes, pock_session_bytes()}};
  for (int i = 0; i < 4; i++) {
    int code = check_region(session, &regions[i]);
    if (code) return code;
  }
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < i; k++)
      if (overlap(&regions[i], &regions[k]))
        return pock_fail(session, POCK_ERROR_MEMORY, "the regions %s and %s overlap", regions[k].name, regions[i].name);
  return POCK_OK;
}

int pock_start(pock_session *session, const pock_setup *setup, const void *frozen) {
  int code = check_regions(session, setup, frozen);
  if (code) return code;
  session->frozen = (unsigned char *)(uintptr_t)frozen; /* entry points take void *, but never write here */
  session->state = setup->state;
  session->arena = setup->arena;
  session->max_threads = (int)setup->threads;
  for (int i = 0; i < session->max_threads; i++) {
    session->workers[i].session = session;
    session->workers[i].index = i;
    session->workers[i].workspace =
        session->arena + pock_artifact.arena_bytes + (size_t)i * pock_artifact.workspace_bytes_per_thread;
  }
  pock_place_threads(session, "/sys", (int)setup->affinity);
  code = pock_threads_start(session, session->max_threads);
  if (!code && pock_artifact.device) code = pock_artifact.device->start(session);
  if (code) pock_shutdown(session);
  return code;
}

int pock_init(pock_session *session, const pock_setup *setup) {
  int code = pock_begin(session, setup);
  return code ? code : pock_start(session, setup, setup->frozen);
}

void pock_shutdown(pock_session *session) {
  if (!session) return;
  if (session->device) pock_artifact.device->stop(session);
  pock_threads_stop(session);
  pock_release_starter(session);
  pock_unmap_file(session->mapping, session->mapping_bytes);
  session->mapping = NULL;
  session->frozen = session->state = session->arena = NULL;
}

int pock_set_threads(pock_session *session, int threads) {
  int code = pock_ready(session);
  if (code) return code;
  if (threads < 1 || threads > session->max_threads)
    return pock_fail(session, POCK_ERROR_ARGUMENT, "%d threads asked for; the session was started with %d", threads,
                     session->max_threads);
  if (threads == session->threads) return POCK_OK;
  pock_threads_stop(session);
  return pock_threads_start(session, threads);
}
