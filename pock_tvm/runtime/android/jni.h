/* As much of the Java Native Interface as pock_jni.c uses, for workstations without a JDK or the NDK. Each function stands
 * at the place in the table that the interface's specification gives it, the number behind it. */
#ifndef JNI_SUBSET_H
#define JNI_SUBSET_H

#include <stdint.h>

#define JNIEXPORT __attribute__((visibility("default")))
#define JNICALL
typedef int32_t jint;
typedef int64_t jlong;
typedef float jfloat;
typedef int32_t jsize;
typedef unsigned char jboolean;
typedef void *jobject, *jclass, *jstring, *jlongArray;
struct JNINativeInterface_;
typedef const struct JNINativeInterface_ *JNIEnv;
struct JNINativeInterface_ {
  void *to_6[6];
  jclass (*FindClass)(JNIEnv *, const char *); /* 6 */
  void *to_14[7];
  jint (*ThrowNew)(JNIEnv *, jclass, const char *); /* 14 */
  void *to_167[152];
  jstring (*NewStringUTF)(JNIEnv *, const char *); /* 167 */
  void *to_169;
  const char *(*GetStringUTFChars)(JNIEnv *, jstring, jboolean *);     /* 169 */
  void (*ReleaseStringUTFChars)(JNIEnv *, jstring, const char *);      /* 170 */
  void *to_212[41];
  void (*SetLongArrayRegion)(JNIEnv *, jlongArray, jsize, jsize, const jlong *); /* 212 */
  void *to_230[17];
  void *(*GetDirectBufferAddress)(JNIEnv *, jobject);   /* 230 */
  jlong (*GetDirectBufferCapacity)(JNIEnv *, jobject); /* 231 */
};

#endif
