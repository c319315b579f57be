/* As much of the Java Native Interface (JNI 1.1 and later) as the example uses, for machines without a JDK: it compiles,
 * and nothing that is compiled with it runs. */
#ifndef JNI_STUB_H
#define JNI_STUB_H

#include <stdint.h>

#define JNIEXPORT __attribute__((visibility("default")))
#define JNICALL
typedef int32_t jint;
typedef int64_t jlong;
typedef float jfloat;
typedef unsigned char jboolean;
typedef void *jclass, *jstring;
struct calls;
typedef const struct calls *JNIEnv;
struct calls {
  jclass (*FindClass)(JNIEnv *, const char *);
  jint (*ThrowNew)(JNIEnv *, jclass, const char *);
  const char *(*GetStringUTFChars)(JNIEnv *, jstring, jboolean *);
  void (*ReleaseStringUTFChars)(JNIEnv *, jstring, const char *);
};

#endif
