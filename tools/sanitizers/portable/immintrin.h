// The AVX-512 intrinsics that the encoder uses, in plain C++: the encoder then runs on any processor, and sanitizers see
// every access. An unaligned access ends the process, as the instruction itself would.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct alignas(16) __m128i {
  uint8_t bytes[16];
};
struct alignas(32) __m256i {
  uint8_t bytes[32];
};
struct alignas(64) __m512i {
  uint8_t bytes[64];
};
struct alignas(64) __m512 {
  float lanes[16];
};

// Not inlined, to keep the encoder small; otherwise a sanitizer takes minutes to compile it.
#define PORTABLE __attribute__((noinline, unused)) static

#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_NO_EXC 8
#define _MM_HINT_T1 2

#define _mm_pause() static_cast<void>(0)
// A prefetch may name any address, because it does not access it.
PORTABLE void _mm_prefetch(const void*, int) {}

namespace portable {

template <class To, class From>
PORTABLE To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "the sizes differ");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

template <class T>
struct Lanes16 {
  T at[16];
};
using Ints16 = Lanes16<int32_t>;
using Words32 = Lanes16<int16_t[2]>;

PORTABLE Ints16 ints(__m512i value) { return bits<Ints16>(value); }
PORTABLE __m512i pack(const Ints16& value) { return bits<__m512i>(value); }

template <class Vector>
PORTABLE Vector load(const void* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(Vector)) abort();
  Vector value;
  memcpy(&value, from, sizeof(Vector));
  return value;
}

template <class Vector>
PORTABLE void store(void* to, const Vector& value) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(Vector)) abort();
  memcpy(to, &value, sizeof(Vector));
}

template <class Function>
PORTABLE __m512 floats(Function&& lane) {
  __m512 value;
  for (int i = 0; i < 16; i++) value.lanes[i] = lane(i);
  return value;
}

template <class Function>
PORTABLE __m512i each_int(Function&& lane) {
  Ints16 value;
  for (int i = 0; i < 16; i++) value.at[i] = lane(i);
  return pack(value);
}

// Like the instruction: nearest, ties to even; out-of-range values and NaN become INT32_MIN.
PORTABLE int32_t to_int(float value) {
  float nearest = rintf(value);
  return nearest >= -2147483648.0f && nearest < 2147483648.0f ? int32_t(nearest) : INT32_MIN;
}

PORTABLE int32_t wrapped(int64_t value) { return int32_t(uint32_t(uint64_t(value))); }

}  // namespace portable

PORTABLE __m512 _mm512_load_ps(const void* from) { return portable::load<__m512>(from); }
PORTABLE void _mm512_store_ps(void* to, __m512 value) { portable::store(to, value); }
PORTABLE __m512i _mm512_load_si512(const void* from) { return portable::load<__m512i>(from); }
PORTABLE void _mm512_store_si512(void* to, __m512i value) { portable::store(to, value); }
PORTABLE __m128i _mm_load_si128(const __m128i* from) { return portable::load<__m128i>(from); }
PORTABLE void _mm_store_si128(__m128i* to, __m128i value) { portable::store(to, value); }
PORTABLE void _mm256_store_si256(__m256i* to, __m256i value) { portable::store(to, value); }

PORTABLE __m512 _mm512_set1_ps(float x) {
  return portable::floats([&](int) { return x; });
}
PORTABLE __m512 _mm512_setzero_ps() { return _mm512_set1_ps(0.0f); }
PORTABLE __m512i _mm512_set1_epi32(int32_t x) {
  return portable::each_int([&](int) { return x; });
}
PORTABLE __m512i _mm512_setzero_si512() { return _mm512_set1_epi32(0); }

PORTABLE __m512 _mm512_add_ps(__m512 a, __m512 b) {
  return portable::floats([&](int i) { return a.lanes[i] + b.lanes[i]; });
}
PORTABLE __m512 _mm512_sub_ps(__m512 a, __m512 b) {
  return portable::floats([&](int i) { return a.lanes[i] - b.lanes[i]; });
}
PORTABLE __m512 _mm512_mul_ps(__m512 a, __m512 b) {
  return portable::floats([&](int i) { return a.lanes[i] * b.lanes[i]; });
}
PORTABLE __m512 _mm512_mask_mul_ps(__m512 other, uint16_t mask, __m512 a, __m512 b) {
  return portable::floats([&](int i) { return mask >> i & 1 ? a.lanes[i] * b.lanes[i] : other.lanes[i]; });
}
PORTABLE __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return portable::floats([&](int i) { return a.lanes[i] * b.lanes[i] + c.lanes[i]; });
}
PORTABLE __m512 _mm512_fmsub_ps(__m512 a, __m512 b, __m512 c) {
  return portable::floats([&](int i) { return a.lanes[i] * b.lanes[i] - c.lanes[i]; });
}
PORTABLE __m512 _mm512_fnmadd_ps(__m512 a, __m512 b, __m512 c) {
  return portable::floats([&](int i) { return c.lanes[i] - a.lanes[i] * b.lanes[i]; });
}
// Like the instructions: returns the second operand if either is NaN.
PORTABLE __m512 _mm512_max_ps(__m512 a, __m512 b) {
  return portable::floats([&](int i) { return a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
}
PORTABLE __m512 _mm512_min_ps(__m512 a, __m512 b) {
  return portable::floats([&](int i) { return a.lanes[i] < b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
}
PORTABLE __m512 _mm512_abs_ps(__m512 a) {
  return portable::floats([&](int i) { return fabsf(a.lanes[i]); });
}
PORTABLE float _mm512_reduce_add_ps(__m512 a) {
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) a.lanes[i] += a.lanes[i + half];
  return a.lanes[0];
}
PORTABLE float _mm512_reduce_max_ps(__m512 a) {
  for (int i = 1; i < 16; i++) a.lanes[0] = a.lanes[i] > a.lanes[0] ? a.lanes[i] : a.lanes[0];
  return a.lanes[0];
}
PORTABLE float _mm512_reduce_min_ps(__m512 a) {
  for (int i = 1; i < 16; i++) a.lanes[0] = a.lanes[i] < a.lanes[0] ? a.lanes[i] : a.lanes[0];
  return a.lanes[0];
}
PORTABLE __m512 _mm512_roundscale_ps(__m512 a, int) {
  return portable::floats([&](int i) { return rintf(a.lanes[i]); });
}
PORTABLE __m512 _mm512_scalef_ps(__m512 a, __m512 by) {
  return portable::floats([&](int i) {
    float power = by.lanes[i];
    if (!(power > -1000.0f)) power = -1000.0f;
    if (power > 1000.0f) power = 1000.0f;
    return ldexpf(a.lanes[i], int(power));
  });
}

PORTABLE __m512 _mm512_cvtepi32_ps(__m512i a) {
  portable::Ints16 from = portable::ints(a);
  return portable::floats([&](int i) { return float(from.at[i]); });
}
PORTABLE __m512i _mm512_cvtps_epi32(__m512 a) {
  return portable::each_int([&](int i) { return portable::to_int(a.lanes[i]); });
}
PORTABLE __m512i _mm512_cvtepi8_epi32(__m128i a) {
  return portable::each_int([&](int i) { return int32_t(int8_t(a.bytes[i])); });
}
PORTABLE __m256i _mm512_cvtepi32_epi16(__m512i a) {
  portable::Ints16 from = portable::ints(a);
  portable::Lanes16<uint16_t> to;
  for (int i = 0; i < 16; i++) to.at[i] = uint16_t(uint32_t(from.at[i]));
  return portable::bits<__m256i>(to);
}
// Saturates, treating every lane as unsigned.
PORTABLE __m128i _mm512_cvtusepi32_epi8(__m512i a) {
  portable::Ints16 from = portable::ints(a);
  __m128i to;
  for (int i = 0; i < 16; i++) to.bytes[i] = uint32_t(from.at[i]) > 255 ? 255 : uint8_t(from.at[i]);
  return to;
}
PORTABLE __m512i _mm512_max_epi32(__m512i a, __m512i b) {
  portable::Ints16 x = portable::ints(a), y = portable::ints(b);
  return portable::each_int([&](int i) { return x.at[i] > y.at[i] ? x.at[i] : y.at[i]; });
}
PORTABLE __m512i _mm512_slli_epi32(__m512i a, unsigned by) {
  portable::Ints16 from = portable::ints(a);
  return portable::each_int([&](int i) { return int32_t(uint32_t(from.at[i]) << by); });
}
PORTABLE __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
  portable::Ints16 sums = portable::ints(sum);
  return portable::each_int([&](int i) {
    int64_t total = sums.at[i];
    for (int j = 4 * i; j < 4 * i + 4; j++) total += int32_t(a.bytes[j]) * int8_t(b.bytes[j]);
    return portable::wrapped(total);
  });
}
PORTABLE __m512i _mm512_dpwssd_epi32(__m512i sum, __m512i a, __m512i b) {
  portable::Ints16 sums = portable::ints(sum);
  portable::Words32 x = portable::bits<portable::Words32>(a), y = portable::bits<portable::Words32>(b);
  return portable::each_int([&](int i) {
    return portable::wrapped(sums.at[i] + int64_t(x.at[i][0]) * y.at[i][0] + int64_t(x.at[i][1]) * y.at[i][1]);
  });
}
PORTABLE __m512i _mm512_mask_blend_epi16(uint32_t mask, __m512i a, __m512i b) {
  portable::Words32 x = portable::bits<portable::Words32>(a), y = portable::bits<portable::Words32>(b);
  for (int i = 0; i < 32; i++)
    if (mask >> i & 1) x.at[i / 2][i % 2] = y.at[i / 2][i % 2];
  return portable::bits<__m512i>(x);
}
PORTABLE __m512i _mm512_castsi256_si512(__m256i a) {
  __m512i value{};
  memcpy(&value, &a, 32);
  return value;
}
PORTABLE __m512i _mm512_inserti64x4(__m512i a, __m256i b, int half) {
  memcpy(a.bytes + 32 * half, &b, 32);
  return a;
}
PORTABLE __m512i _mm512_shuffle_i32x4(__m512i a, __m512i b, int by) {
  __m512i value;
  for (int i = 0; i < 4; i++) memcpy(value.bytes + 16 * i, (i < 2 ? a : b).bytes + 16 * (by >> 2 * i & 3), 16);
  return value;
}

namespace portable {

// Interleaves, per quarter, the elements of `size` bytes from the lower or the upper half of both operands.
PORTABLE __m512i unpack(__m512i a, __m512i b, int size, bool upper) {
  __m512i value;
  for (int quarter = 0; quarter < 64; quarter += 16)
    for (int i = 0; i < 8 / size; i++) {
      int from = quarter + (upper ? 8 : 0) + i * size, to = quarter + 2 * i * size;
      memcpy(value.bytes + to, a.bytes + from, size);
      memcpy(value.bytes + to + size, b.bytes + from, size);
    }
  return value;
}

}  // namespace portable

PORTABLE __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) { return portable::unpack(a, b, 4, false); }
PORTABLE __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) { return portable::unpack(a, b, 4, true); }
PORTABLE __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) { return portable::unpack(a, b, 8, false); }
PORTABLE __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) { return portable::unpack(a, b, 8, true); }
