/* What org.pock.PockModel calls. A session's memory is taken when it is opened; every error becomes an exception. */
#include <jni.h>
#include <stdint.h>
#include <stdlib.h>

#include "pock.h"

#define METHOD(type, name) JNIEXPORT type JNICALL Java_org_pock_PockModel_##name

typedef struct {
  pock_session *session;
  void *state, *arena;
  int32_t correct; /* of the last evaluation */
} model;

static void throw_error(JNIEnv *env, const char *message) {
  jclass kind = (*env)->FindClass(env, "java/lang/RuntimeException");
  if (kind) (*env)->ThrowNew(env, kind, message);
}

static pock_session *session_of(jlong address) { return ((model *)(intptr_t)address)->session; }

static void check(JNIEnv *env, jlong address, int code) {
  if (code) throw_error(env, pock_last_error(session_of(address)));
}

static void *aligned(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, POCK_ALIGNMENT, bytes ? bytes : 1) ? NULL : memory;
}

static void release(model *m) {
  free(m->arena);
  free(m->state);
  free(m->session);
  free(m);
}

METHOD(jint, nativeSuggestedThreads)(JNIEnv *env, jclass self) {
  (void)env, (void)self;
  return pock_suggested_threads();
}

METHOD(jlong, nativeOpen)(JNIEnv *env, jclass self, jstring weights, jint threads) {
  (void)self;
  if (threads < 1 || threads > POCK_MAX_THREADS) {
    throw_error(env, "1 to 64 threads work");
    return 0;
  }
  const char *path = (*env)->GetStringUTFChars(env, weights, NULL);
  if (!path) return 0; /* Java throws OutOfMemoryError by itself */
  model *m = calloc(1, sizeof *m);
  pock_setup setup = {.abi = POCK_ABI, .threads = threads, .session_bytes = pock_session_bytes()};
  setup.state_bytes = pock_state_bytes();
  setup.arena_bytes = pock_arena_bytes(threads);
  if (m) {
    m->session = aligned(setup.session_bytes);
    m->state = setup.state = aligned(setup.state_bytes);
    m->arena = setup.arena = aligned(setup.arena_bytes);
  }
  int code = POCK_ERROR_MEMORY;
  if (!m || !m->session || !m->state || !m->arena)
    throw_error(env, "there is not enough memory for the model's state and arena");
  else if ((code = pock_open(m->session, path, &setup)))
    throw_error(env, pock_last_error(m->session));
  (*env)->ReleaseStringUTFChars(env, weights, path);
  if (!code) return (jlong)(intptr_t)m;
  if (m) release(m);
  return 0;
}

METHOD(void, nativeClose)(JNIEnv *env, jclass self, jlong address) {
  (void)env, (void)self;
  pock_shutdown(session_of(address));
  release((model *)(intptr_t)address);
}

METHOD(jfloat, nativeTrainStep)(JNIEnv *env, jclass self, jlong address, jfloat learning_rate) {
  (void)self;
  float loss = 0;
  check(env, address, pock_train_step(session_of(address), learning_rate, &loss));
  return loss;
}

METHOD(jfloat, nativeEvaluate)(JNIEnv *env, jclass self, jlong address) {
  (void)self;
  float loss = 0;
  check(env, address, pock_evaluate(session_of(address), &loss, &((model *)(intptr_t)address)->correct));
  return loss;
}

METHOD(jint, nativeCorrect)(JNIEnv *env, jclass self, jlong address) {
  (void)env, (void)self;
  return ((model *)(intptr_t)address)->correct;
}

METHOD(void, nativePredict)(JNIEnv *env, jclass self, jlong address) {
  (void)self;
  check(env, address, pock_predict(session_of(address)));
}

METHOD(jlong, nativeSteps)(JNIEnv *env, jclass self, jlong address) {
  (void)env, (void)self;
  pock_progress progress;
  pock_get_progress(session_of(address), &progress);
  return (jlong)progress.step;
}

enum { WRITE, READ };

static void copy(JNIEnv *env, jlong address, jstring tensor, jobject buffer, int direction) {
  void *memory = (*env)->GetDirectBufferAddress(env, buffer);
  jlong bytes = (*env)->GetDirectBufferCapacity(env, buffer);
  if (!memory || bytes < 0) {
    throw_error(env, "the buffer is not a direct one: make it with ByteBuffer.allocateDirect");
    return;
  }
  const char *name = (*env)->GetStringUTFChars(env, tensor, NULL);
  if (!name) return;
  pock_session *session = session_of(address);
  int code = direction == WRITE ? pock_write_tensor(session, name, memory, (size_t)bytes)
                                : pock_read_tensor(session, name, memory, (size_t)bytes);
  check(env, address, code);
  (*env)->ReleaseStringUTFChars(env, tensor, name);
}

METHOD(void, nativeWrite)(JNIEnv *env, jclass self, jlong address, jstring tensor, jobject from) {
  (void)self;
  copy(env, address, tensor, from, WRITE);
}

METHOD(void, nativeRead)(JNIEnv *env, jclass self, jlong address, jstring tensor, jobject to) {
  (void)self;
  copy(env, address, tensor, to, READ);
}

static void with_file(JNIEnv *env, jlong address, jstring file, int (*call)(pock_session *, const char *)) {
  const char *path = (*env)->GetStringUTFChars(env, file, NULL);
  if (!path) return;
  check(env, address, call(session_of(address), path));
  (*env)->ReleaseStringUTFChars(env, file, path);
}

METHOD(void, nativeSave)(JNIEnv *env, jclass self, jlong address, jstring file) {
  (void)self;
  with_file(env, address, file, pock_checkpoint_save);
}

METHOD(void, nativeLoad)(JNIEnv *env, jclass self, jlong address, jstring file) {
  (void)self;
  with_file(env, address, file, pock_checkpoint_load);
}

METHOD(jint, nativeTensorCount)(JNIEnv *env, jclass self) {
  (void)env, (void)self;
  return pock_tensor_count();
}

/* The name of a tensor; its bytes, dtype, role, and whether it can be written, into `facts`. */
METHOD(jstring, nativeTensor)(JNIEnv *env, jclass self, jlong address, jint number, jlongArray facts) {
  (void)self;
  pock_tensor_about about;
  int code = pock_describe_tensor(session_of(address), number, &about);
  check(env, address, code);
  if (code) return NULL;
  jlong values[4] = {(jlong)about.bytes, about.dtype, about.role, about.writable};
  (*env)->SetLongArrayRegion(env, facts, 0, 4, values);
  return (*env)->NewStringUTF(env, about.name);
}
