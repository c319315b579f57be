/* Scratch memory of kernels: one stack per thread at the end of the arena.
 *
 * A kernel frees what it took in reverse order and before it returns, so a pointer is all that a stack needs.
 */
#include "pock_internal.h"

void pock_workspace_reset(pock_session *session) {
  for (int i = 0; i < session->max_threads; i++) session->workers[i].used = 0; /* a failed kernel leaves its share */
}

void *TVMBackendAllocWorkspace(int device_type, int device, uint64_t bytes, int type_code, int bits);
void *TVMBackendAllocWorkspace(int device_type, int device, uint64_t bytes, int type_code, int bits) {
  (void)device_type, (void)device, (void)type_code, (void)bits;
  pock_worker *worker = pock_current;
  if (!worker) return NULL;
  uint64_t capacity = pock_artifact.workspace_bytes_per_thread;
  uint64_t taken = (bytes + POCK_ALIGNMENT - 1) / POCK_ALIGNMENT * POCK_ALIGNMENT;
  if (taken < bytes || taken > capacity - worker->used) {
    pock_fail(worker->session, POCK_ERROR_KERNEL, "a kernel asks for %llu bytes of workspace; %llu of %llu are left",
              (unsigned long long)bytes, (unsigned long long)(capacity - worker->used), (unsigned long long)capacity);
    return NULL;
  }
  void *block = worker->workspace + worker->used;
  worker->used += taken;
  return block;
}

int TVMBackendFreeWorkspace(int device_type, int device, void *block);
int TVMBackendFreeWorkspace(int device_type, int device, void *block) {
  (void)device_type, (void)device;
  pock_worker *worker = pock_current;
  if (!worker || (unsigned char *)block < worker->workspace) return -1;
  uint64_t offset = (uint64_t)((unsigned char *)block - worker->workspace);
  if (offset > worker->used) return -1; /* freed twice, or out of order */
  worker->used = offset;
  return 0;
}

void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = TVMBackendAllocWorkspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = TVMBackendFreeWorkspace;
