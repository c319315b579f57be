/* Does this processor have what the kernels were compiled for? Asked before the first of them runs.
 *
 * The features are named as Linux names them in /proc/cpuinfo. The answer comes from the processor (x86) or from the
 * kernel's hardware capabilities (Arm, RISC-V), which an emulator answers for the machine that it emulates. The runtime
 * itself is compiled for the oldest processor of its architecture, so that it lives to say what is missing.
 */
#include "pock_internal.h"

#include <string.h>

typedef struct {
  const char *name;
  uint8_t word, bit; /* in what read_words() fills */
  uint8_t state;     /* x86: also needs registers that the system saves, see SAVED_* */
} feature;

enum { WORDS = 8, SAVED_ALWAYS = 0, SAVED_AVX, SAVED_AVX512, SAVED_AMX };

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

enum { LEAF1_C, LEAF7_B, LEAF7_C, LEAF7_D, LEAF71_A, LEAF71_D, EXTENDED_C };

static const feature known[] = {
    {"ssse3", LEAF1_C, 9, 0},
    {"fma", LEAF1_C, 12, SAVED_AVX},
    {"sse4_1", LEAF1_C, 19, 0},
    {"sse4_2", LEAF1_C, 20, 0},
    {"movbe", LEAF1_C, 22, 0},
    {"popcnt", LEAF1_C, 23, 0},
    {"avx", LEAF1_C, 28, SAVED_AVX},
    {"f16c", LEAF1_C, 29, SAVED_AVX},
    {"bmi1", LEAF7_B, 3, 0},
    {"avx2", LEAF7_B, 5, SAVED_AVX},
    {"bmi2", LEAF7_B, 8, 0},
    {"avx512f", LEAF7_B, 16, SAVED_AVX512},
    {"avx512dq", LEAF7_B, 17, SAVED_AVX512},
    {"avx512ifma", LEAF7_B, 21, SAVED_AVX512},
    {"avx512pf", LEAF7_B, 26, SAVED_AVX512},
    {"avx512er", LEAF7_B, 27, SAVED_AVX512},
    {"avx512cd", LEAF7_B, 28, SAVED_AVX512},
    {"sha_ni", LEAF7_B, 29, 0},
    {"avx512bw", LEAF7_B, 30, SAVED_AVX512},
    {"avx512vl", LEAF7_B, 31, SAVED_AVX512},
    {"avx512vbmi", LEAF7_C, 1, SAVED_AVX512},
    {"avx512_vbmi2", LEAF7_C, 6, SAVED_AVX512},
    {"avx512_vnni", LEAF7_C, 11, SAVED_AVX512},
    {"avx512_bitalg", LEAF7_C, 12, SAVED_AVX512},
    {"avx512_vpopcntdq", LEAF7_C, 14, SAVED_AVX512},
    {"avx512_4vnniw", LEAF7_D, 2, SAVED_AVX512},
    {"avx512_4fmaps", LEAF7_D, 3, SAVED_AVX512},
    {"avx512_vp2intersect", LEAF7_D, 8, SAVED_AVX512},
    {"amx_bf16", LEAF7_D, 22, SAVED_AMX},
    {"avx512_fp16", LEAF7_D, 23, SAVED_AVX512},
    {"amx_tile", LEAF7_D, 24, SAVED_AMX},
    {"amx_int8", LEAF7_D, 25, SAVED_AMX},
    {"avx_vnni", LEAF71_A, 4, SAVED_AVX},
    {"avx512_bf16", LEAF71_A, 5, SAVED_AVX512},
    {"amx_fp16", LEAF71_A, 21, SAVED_AMX},
    {"avx_ifma", LEAF71_A, 23, SAVED_AVX},
    {"avx_vnni_int8", LEAF71_D, 4, SAVED_AVX},
    {"avx_ne_convert", LEAF71_D, 5, SAVED_AVX},
    {"amx_complex", LEAF71_D, 8, SAVED_AMX},
    {"avx_vnni_int16", LEAF71_D, 10, SAVED_AVX},
    {"fma4", EXTENDED_C, 16, SAVED_AVX},
};

static void read_words(uint64_t words[WORDS]) {
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d)) words[LEAF1_C] = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    words[LEAF7_B] = b, words[LEAF7_C] = c, words[LEAF7_D] = d;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) words[LEAF71_A] = a, words[LEAF71_D] = d;
  }
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) words[EXTENDED_C] = c;
}

/* Which registers the system keeps across a switch of tasks: XCR0, readable where OSXSAVE is set. */
static int saved(const uint64_t words[WORDS], unsigned state) {
  static const uint32_t needed[] = {0, 0x6, 0xe6, 0x60000};
  if (!state) return 1;
  if (!(words[LEAF1_C] >> 27 & 1)) return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & needed[state]) == needed[state];
}

#elif defined(__linux__) && (defined(__aarch64__) || defined(__arm__) || (defined(__riscv) && __riscv_xlen == 64))
#include <sys/auxv.h>

enum { HWCAP, HWCAP2 };

static const feature known[] = {
#if defined(__aarch64__)
    {"sha2", HWCAP, 6, 0},
    {"asimd", HWCAP, 1, 0},        {"atomics", HWCAP, 8, 0},     {"fphp", HWCAP, 9, 0},
    {"asimdhp", HWCAP, 10, 0},     {"asimdrdm", HWCAP, 12, 0},   {"asimddp", HWCAP, 20, 0},
    {"sve", HWCAP, 22, 0},         {"asimdfhm", HWCAP, 23, 0},   {"sve2", HWCAP2, 1, 0},
    {"sveaes", HWCAP2, 2, 0},      {"svepmull", HWCAP2, 3, 0},   {"svebitperm", HWCAP2, 4, 0},
    {"svesha3", HWCAP2, 5, 0},     {"svesm4", HWCAP2, 6, 0},     {"svei8mm", HWCAP2, 9, 0},
    {"svef32mm", HWCAP2, 10, 0},   {"svef64mm", HWCAP2, 11, 0},  {"svebf16", HWCAP2, 12, 0},
    {"i8mm", HWCAP2, 13, 0},       {"bf16", HWCAP2, 14, 0},
#elif defined(__arm__)
    {"neon", HWCAP, 12, 0},        {"vfpv3", HWCAP, 13, 0},      {"vfpv4", HWCAP, 16, 0},
#else
    {"v", HWCAP, 'v' - 'a', 0},
#endif
};

static void read_words(uint64_t words[WORDS]) {
  words[HWCAP] = getauxval(AT_HWCAP);
#ifdef AT_HWCAP2
  words[HWCAP2] = getauxval(AT_HWCAP2);
#endif
}

static int saved(const uint64_t words[WORDS], unsigned state) {
  (void)words, (void)state;
  return 1;
}

#else /* systems whose machines all have what their target is compiled for */

static const feature known[] = {{"sha2", 0, 0, 0}}; /* Apple's have it, and no other asks */
static void read_words(uint64_t words[WORDS]) { words[0] = 1; }
static int saved(const uint64_t words[WORDS], unsigned state) { return (void)words, (void)state, 1; }

#endif

static const feature *find(const char *name, size_t length) {
  for (size_t k = 0; k < sizeof known / sizeof *known; k++)
    if (strlen(known[k].name) == length && !memcmp(known[k].name, name, length)) return &known[k];
  return NULL;
}

static int present(const uint64_t words[WORDS], const feature *f) {
  return (words[f->word] >> f->bit & 1) && saved(words, f->state);
}

int pock_has_feature(const char *name) {
  uint64_t words[WORDS] = {0};
  const feature *found = find(name, strlen(name));
  read_words(words);
  return found && present(words, found);
}

int pock_check_machine(pock_session *session) {
  uint64_t words[WORDS] = {0};
  read_words(words);
  for (const char *name = pock_artifact.cpu_features; *name; name += strcspn(name, " ") + 1) {
    const feature *found = find(name, strcspn(name, " "));
    if (!found || present(words, found)) continue; /* pock_tvm asks only for what stands above; its tests compare */
    return pock_fail(session, POCK_ERROR_MACHINE, "this processor lacks %s, which the artifact for %s was compiled for",
                     found->name, pock_artifact.target);
  }
  return POCK_OK;
}
