/* What Train.java calls:
 *
 *   cc -shared -fPIC train_jni.c -I$JAVA_HOME/include -I$JAVA_HOME/include/linux -Inet/runtime net/libpock_model.so \
 *      -Wl,-rpath,net -o libtrain_jni.so
 */
#include <jni.h>
#include <stdlib.h>

#include "pock.h"

typedef struct {
  pock_session *session;
  pock_setup setup;
} model;

static void throw_error(JNIEnv *env, const pock_session *session) {
  jclass kind = (*env)->FindClass(env, "java/lang/RuntimeException");
  if (kind) (*env)->ThrowNew(env, kind, pock_last_error(session));
}

static void *aligned(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, POCK_ALIGNMENT, bytes) ? NULL : memory;
}

static void release(model *m) {
  if (!m) return;
  pock_shutdown(m->session);
  free(m->setup.arena);
  free(m->setup.state);
  free(m->session);
  free(m);
}

JNIEXPORT jlong JNICALL Java_Train_open(JNIEnv *env, jclass self, jstring weights, jint threads) {
  (void)self;
  model *m = calloc(1, sizeof *m);
  const char *path = (*env)->GetStringUTFChars(env, weights, NULL);
  if (!m || !path) return 0; /* Java throws OutOfMemoryError by itself */
  pock_setup *setup = &m->setup;
  setup->abi = POCK_ABI;
  setup->threads = threads;
  m->session = aligned(setup->session_bytes = pock_session_bytes());
  setup->state = aligned(setup->state_bytes = pock_state_bytes());
  setup->arena = aligned(setup->arena_bytes = pock_arena_bytes(threads));
  int code = pock_open(m->session, path, setup);
  (*env)->ReleaseStringUTFChars(env, weights, path);
  if (!code) return (jlong)(intptr_t)m;
  throw_error(env, m->session);
  release(m);
  return 0;
}

static void fill(pock_session *session) {
  pock_tensor_about about;
  for (int i = 0; i < pock_tensor_count(); i++) {
    if (pock_describe_tensor(session, i, &about)) continue;
    if (about.role != POCK_INPUT && about.role != POCK_LABEL) continue;
    void *at = pock_tensor(session, about.name, NULL);
    for (size_t k = 0; k < about.bytes / 4; k++) {
      if (about.dtype == POCK_FLOAT32) ((float *)at)[k] = (float)(k % 5) - 2;
      if (about.dtype == POCK_INT32) ((int32_t *)at)[k] = (int32_t)(k % 3);
    }
  }
}

JNIEXPORT jfloat JNICALL Java_Train_step(JNIEnv *env, jclass self, jlong address, jfloat learning_rate) {
  (void)self;
  model *m = (model *)(intptr_t)address;
  float loss = 0;
  fill(m->session);
  if (pock_train_step(m->session, learning_rate, &loss)) throw_error(env, m->session);
  return loss;
}

JNIEXPORT void JNICALL Java_Train_close(JNIEnv *env, jclass self, jlong address) {
  (void)env, (void)self;
  release((model *)(intptr_t)address);
}
