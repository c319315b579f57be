/* SHA-256 by the processor's own instructions, where it has them: most of a start is the hash of the weights.
 *
 * Sixteen times four rounds; w holds the last sixteen words of the message schedule, the oldest four at w[i % 4].
 */
#include "pock_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

static const char feature[] = "sha_ni";

__attribute__((target("sha,sse4.1,ssse3"))) static void add_blocks(uint32_t state[8], const uint8_t *from, size_t blocks,
                                                                   const uint32_t constants[64]) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
  __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
  __m128i feba = _mm_alignr_epi8(badc, hgfe, 8), hgdc = _mm_blend_epi16(hgfe, badc, 0xf0), w[4];
  for (; blocks--; from += 64) {
    const __m128i start_feba = feba, start_hgdc = hgdc;
    for (int i = 0; i < 16; i++) {
      __m128i *now = &w[i % 4], last = w[(i + 3) % 4];
      if (i < 4) {
        *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(from + 16 * i)), big_endian);
      } else {
        __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) % 4]), _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
        *now = _mm_sha256msg2_epu32(sum, last);
      }
      __m128i k = _mm_add_epi32(*now, _mm_loadu_si128((const __m128i *)(const void *)(constants + 4 * i)));
      hgdc = _mm_sha256rnds2_epu32(hgdc, feba, k);
      feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(k, 0x0e));
    }
    feba = _mm_add_epi32(feba, start_feba);
    hgdc = _mm_add_epi32(hgdc, start_hgdc);
  }
  __m128i abef = _mm_shuffle_epi32(feba, 0x1b), ghcd = _mm_shuffle_epi32(hgdc, 0xb1);
  _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(abef, ghcd, 0xf0));
  _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(ghcd, abef, 8));
}

#elif defined(__aarch64__) && defined(__ARM_NEON) && (!defined(__clang__) || __clang_major__ >= 17)
#include <arm_neon.h> /* an older clang declares the instructions only when all of the file may use them */

static const char feature[] = "sha2";

#ifdef __clang__
__attribute__((target("sha2")))
#else
__attribute__((target("+crypto")))
#endif
static void add_blocks(uint32_t state[8], const uint8_t *from, size_t blocks, const uint32_t constants[64]) {
  uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4), w[4];
  for (; blocks--; from += 64) {
    const uint32x4_t start_abcd = abcd, start_efgh = efgh;
    for (int i = 0; i < 16; i++) {
      uint32x4_t *now = &w[i % 4];
      if (i < 4)
        *now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(from + 16 * i)));
      else
        *now = vsha256su1q_u32(vsha256su0q_u32(*now, w[(i + 1) % 4]), w[(i + 2) % 4], w[(i + 3) % 4]);
      uint32x4_t k = vaddq_u32(*now, vld1q_u32(constants + 4 * i)), before = abcd;
      abcd = vsha256hq_u32(abcd, efgh, k);
      efgh = vsha256h2q_u32(efgh, before, k);
    }
    abcd = vaddq_u32(abcd, start_abcd);
    efgh = vaddq_u32(efgh, start_efgh);
  }
  vst1q_u32(state, abcd);
  vst1q_u32(state + 4, efgh);
}

#else

static const char feature[] = "";
static void add_blocks(uint32_t state[8], const uint8_t *from, size_t blocks, const uint32_t constants[64]) {
  (void)state, (void)from, (void)blocks, (void)constants;
}

#endif

int pock_sha256_fast(uint32_t state[8], const uint8_t *from, size_t blocks, const uint32_t constants[64]) {
  static atomic_int known; /* 0: not asked yet; to ask a virtual machine's processor takes long */
  int answer = atomic_load_explicit(&known, memory_order_relaxed);
  if (!answer) {
    answer = feature[0] && pock_has_feature(feature) ? 1 : -1;
    atomic_store_explicit(&known, answer, memory_order_relaxed);
  }
  if (answer > 0) add_blocks(state, from, blocks, constants);
  return answer > 0;
}
