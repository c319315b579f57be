/* Stands for a Java virtual machine: fills the table of functions that pock_jni.c calls, and trains through it.
 *
 *   jni_driver WEIGHTS CHECKPOINT
 */
#include <jni.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pock.h"

#define CALL(type, name) extern type Java_org_pock_PockModel_##name
CALL(jlong, nativeOpen)(JNIEnv *, jclass, jstring, jint);
CALL(void, nativeClose)(JNIEnv *, jclass, jlong);
CALL(jfloat, nativeTrainStep)(JNIEnv *, jclass, jlong, jfloat);
CALL(jfloat, nativeEvaluate)(JNIEnv *, jclass, jlong);
CALL(jint, nativeCorrect)(JNIEnv *, jclass, jlong);
CALL(void, nativePredict)(JNIEnv *, jclass, jlong);
CALL(jlong, nativeSteps)(JNIEnv *, jclass, jlong);
CALL(void, nativeWrite)(JNIEnv *, jclass, jlong, jstring, jobject);
CALL(void, nativeRead)(JNIEnv *, jclass, jlong, jstring, jobject);
CALL(void, nativeSave)(JNIEnv *, jclass, jlong, jstring);
CALL(void, nativeLoad)(JNIEnv *, jclass, jlong, jstring);
CALL(jint, nativeTensorCount)(JNIEnv *, jclass);
CALL(jint, nativeSuggestedThreads)(JNIEnv *, jclass);
CALL(jstring, nativeTensor)(JNIEnv *, jclass, jlong, jint, jlongArray);

typedef struct {
  void *memory; /* NULL: not a direct buffer */
  jlong bytes;
} buffer;

static int borrowed; /* strings that were taken and not given back */

static jclass find_class(JNIEnv *env, const char *name) { return (void)env, (jclass)name; }

static jint throw_new(JNIEnv *env, jclass kind, const char *message) {
  (void)env;
  return printf("%s: %s\n", (const char *)kind, message), 0;
}

static jstring new_string(JNIEnv *env, const char *text) { return (void)env, (jstring)text; }

/* A copy, so that the memory checker sees whoever keeps or forgets one. */
static const char *take(JNIEnv *env, jstring text, jboolean *copied) {
  (void)env, (void)copied;
  borrowed++;
  return strdup(text);
}

static void give_back(JNIEnv *env, jstring text, const char *copy) {
  (void)env, (void)text;
  borrowed--;
  free((void *)copy);
}

static void set_longs(JNIEnv *env, jlongArray array, jsize start, jsize count, const jlong *values) {
  (void)env;
  memcpy((jlong *)array + start, values, (size_t)count * sizeof *values);
}

static void *address_of(JNIEnv *env, jobject b) { return (void)env, ((buffer *)b)->memory; }
static jlong capacity_of(JNIEnv *env, jobject b) { return (void)env, ((buffer *)b)->bytes; }

static const struct JNINativeInterface_ table = {
    .FindClass = find_class,
    .ThrowNew = throw_new,
    .NewStringUTF = new_string,
    .GetStringUTFChars = take,
    .ReleaseStringUTFChars = give_back,
    .SetLongArrayRegion = set_longs,
    .GetDirectBufferAddress = address_of,
    .GetDirectBufferCapacity = capacity_of,
};
static JNIEnv functions = &table, *env = &functions;
#define JNI(name, ...) Java_org_pock_PockModel_native##name(env, NULL, __VA_ARGS__)

static void fill(jlong model) {
  jlong facts[4];
  for (int i = 0; i < Java_org_pock_PockModel_nativeTensorCount(env, NULL); i++) {
    jstring name = JNI(Tensor, model, i, facts);
    if (facts[2] != POCK_INPUT && facts[2] != POCK_LABEL) continue;
    buffer values = {calloc(1, (size_t)facts[0]), facts[0]};
    for (jlong k = 0; k < facts[0] / 4; k++) {
      if (facts[1] == POCK_FLOAT32) ((float *)values.memory)[k] = (float)(k % 5) - 2;
      if (facts[1] == POCK_INT32) ((int32_t *)values.memory)[k] = (int32_t)(k % 3);
    }
    JNI(Write, model, name, &values);
    free(values.memory);
  }
}

static float step(jlong model) {
  fill(model);
  return JNI(TrainStep, model, 0.01f);
}

int main(int count, char **words) {
  if (count != 3) return 2;
  jlong facts[4];
  float bias[2] = {0, 0}, again;
  buffer whole = {bias, 4}, large = {bias, 8}, heap = {NULL, -1};
  jlong model = JNI(Open, words[1], 2);
  if (!model || Java_org_pock_PockModel_nativeSuggestedThreads(env, NULL) < 1) return 1;
  for (int i = 0; i < 5; i++) printf("%.9g\n", (double)step(model));
  JNI(Save, model, words[2]);
  again = step(model);
  JNI(Load, model, words[2]);
  int same = step(model) == again;
  printf("resumed %d at %lld\n", same, (long long)JNI(Steps, model));
  fill(model);
  float loss = JNI(Evaluate, model);
  fill(model);
  JNI(Predict, model);
  JNI(Read, model, "fc.bias", &whole);
  printf("%d %d %d\n", loss < again, JNI(Correct, model) >= 0, bias[0] != 0);
  JNI(Read, model, "fc.bias", &large);
  JNI(Write, model, "fc.bias", &heap);
  JNI(Write, model, "scale", &large);
  JNI(Load, model, words[1]);
  JNI(Tensor, model, 99, facts);
  JNI(Close, model);
  if (JNI(Open, "/nowhere/weights", 2) || JNI(Open, words[1], 0) || JNI(Open, words[1], 65)) return 1;
  printf("%d strings kept\n", borrowed);
  return 0;
}
