// Integer products of a few rows with a panel of columns, and element-wise functions.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace bert {

using Floats = __m512;
using Ints = __m512i;

// 12 rows by 32 columns need 24 vectors of sums. With two vectors of columns and one row's value they fit the 32
// registers, and every loaded vector is used 12 times.
constexpr long kRows = 12;
constexpr long kPanel = 32;

// Multiplies unsigned by signed bytes, and adds four products to a sum.
struct Bytes {
  static Ints dot(Ints sum, Ints a, Ints b) { return _mm512_dpbusd_epi32(sum, a, b); }
};

// Multiplies signed words, and adds two products to a sum.
struct Words {
  static Ints dot(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

// Memory needed next, prefetched while a tile is computed.
struct Ahead {
  const char* from;
  long lines;
};

// Calls store(row, columns 0 to 15, columns 16 to 31) with the sums of M rows. a: rows `stride` bytes apart. panel: 128
// bytes per step, with the four bytes of each column together.
template <class Kind, int M, class Store>
inline void tile(const void* a, long stride, const void* panel, long steps, Ahead ahead, Store&& store) {
  Ints sums[M][2];
#pragma unroll
  for (int r = 0; r < M; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
  const char* rows = static_cast<const char*>(a);
  const Ints* columns = static_cast<const Ints*>(panel);
  for (long k = 0; k < steps; k++) {
    if (k < ahead.lines) _mm_prefetch(ahead.from + 64 * k, _MM_HINT_T1);
    Ints first = _mm512_load_si512(columns + 2 * k), second = _mm512_load_si512(columns + 2 * k + 1);
#pragma unroll
    for (int r = 0; r < M; r++) {
      int32_t four;
      memcpy(&four, rows + r * stride + 4 * k, 4);
      Ints value = _mm512_set1_epi32(four);
      sums[r][0] = Kind::dot(sums[r][0], value, first);
      sums[r][1] = Kind::dot(sums[r][1], value, second);
    }
  }
#pragma unroll
  for (int r = 0; r < M; r++) store(r, sums[r][0], sums[r][1]);
}

// Computes a tile of 1 to 12 rows.
template <class Kind, class Store>
inline void tile_of(long rows, const void* a, long stride, const void* panel, long steps, Ahead ahead, Store&& store) {
  switch (rows) {
    case 1: return tile<Kind, 1>(a, stride, panel, steps, ahead, store);
    case 2: return tile<Kind, 2>(a, stride, panel, steps, ahead, store);
    case 3: return tile<Kind, 3>(a, stride, panel, steps, ahead, store);
    case 4: return tile<Kind, 4>(a, stride, panel, steps, ahead, store);
    case 5: return tile<Kind, 5>(a, stride, panel, steps, ahead, store);
    case 6: return tile<Kind, 6>(a, stride, panel, steps, ahead, store);
    case 7: return tile<Kind, 7>(a, stride, panel, steps, ahead, store);
    case 8: return tile<Kind, 8>(a, stride, panel, steps, ahead, store);
    case 9: return tile<Kind, 9>(a, stride, panel, steps, ahead, store);
    case 10: return tile<Kind, 10>(a, stride, panel, steps, ahead, store);
    case 11: return tile<Kind, 11>(a, stride, panel, steps, ahead, store);
    case 12: return tile<Kind, 12>(a, stride, panel, steps, ahead, store);
  }
}

// Divides rows `begin` to `end` into as few tiles as possible, of similar height: each(first row, rows, tile, tiles).
template <class Each>
inline void tiles_of(long begin, long end, Each&& each) {
  long rows = end - begin, tiles = (rows + kRows - 1) / kRows;
  for (long t = 0; t < tiles; t++) {
    long from = begin + rows * t / tiles;
    each(from, begin + rows * (t + 1) / tiles - from, t, tiles);
  }
}

// Returns 2^x for x <= 0, within 3e-6 of the exact value: the integer part through the exponent, the remainder of at
// most 1/2 in magnitude through the Taylor series.
inline Floats power_of_two(Floats x) {
  Floats whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  Floats part = _mm512_sub_ps(x, whole);
  Floats sum = _mm512_set1_ps(1.33335581e-3f);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(9.61812911e-3f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(5.55041087e-2f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.40226507e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.93147181e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(sum, whole);
}

// Returns GELU(x), x times the normal distribution function at x, with an error below 4e-5. erf(z) is z times a
// polynomial in z^2, a least-squares fit for |z| <= 3.1 with weights that even out the error.
inline Floats gelu(Floats x) {
  const Floats top = _mm512_set1_ps(3.1f);
  Floats z = _mm512_mul_ps(x, _mm512_set1_ps(0.707106781f));
  z = _mm512_max_ps(_mm512_min_ps(z, top), _mm512_sub_ps(_mm512_setzero_ps(), top));
  Floats square = _mm512_mul_ps(z, z);
  Floats sum = _mm512_set1_ps(-3.00596326e-09f);
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(1.68644490e-07f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(-4.23423035e-06f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(6.34451717e-05f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(-6.40906626e-04f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(4.68989694e-03f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(-2.60345228e-02f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(1.12110011e-01f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(-3.75830472e-01f));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(1.12834358e+00f));
  Floats half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
  return _mm512_fmadd_ps(_mm512_mul_ps(sum, z), half, half);
}

constexpr float kSmallest = 1e-20f;

// Quantizes a row to bytes: x = scale * byte - zero, approximately. All 255 steps are used, and the range includes 0.
inline void quantize(const float* x, long n, uint8_t* bytes, float* scale, float* zero) {
  Floats low = _mm512_setzero_ps(), high = low;
  for (long i = 0; i < n; i += 16) {
    Floats value = _mm512_load_ps(x + i);
    low = _mm512_min_ps(low, value);
    high = _mm512_max_ps(high, value);
  }
  float least = _mm512_reduce_min_ps(low);
  float step = (_mm512_reduce_max_ps(high) - least) / 255.0f;
  if (!(step > kSmallest)) step = kSmallest;
  float offset = __builtin_rintf(-least / step);
  Floats by = _mm512_set1_ps(1.0f / step), plus = _mm512_set1_ps(offset);
  for (long i = 0; i < n; i += 16) {
    Ints value = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_load_ps(x + i), by, plus));
    value = _mm512_max_epi32(value, _mm512_setzero_si512());
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes + i), _mm512_cvtusepi32_epi8(value));
  }
  *scale = step;
  *zero = step * offset;
}

// Adds another row to x if given, normalizes to mean 0 and variance 1, multiplies by gamma, and adds beta.
inline void normalize(float* x, const float* plus, long n, const float* gamma, const float* beta, float epsilon) {
  Floats sum = _mm512_setzero_ps();
  for (long i = 0; i < n; i += 16) {
    Floats value = _mm512_load_ps(x + i);
    if (plus) value = _mm512_add_ps(value, _mm512_load_ps(plus + i));
    _mm512_store_ps(x + i, value);
    sum = _mm512_add_ps(sum, value);
  }
  Floats mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / n);
  sum = _mm512_setzero_ps();
  for (long i = 0; i < n; i += 16) {
    Floats apart = _mm512_sub_ps(_mm512_load_ps(x + i), mean);
    sum = _mm512_fmadd_ps(apart, apart, sum);
  }
  Floats by = _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / n + epsilon));
  for (long i = 0; i < n; i += 16) {
    Floats apart = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(x + i), mean), by);
    _mm512_store_ps(x + i, _mm512_fmadd_ps(apart, _mm512_load_ps(gamma + i), _mm512_load_ps(beta + i)));
  }
}

inline float largest(const float* x, long n) {
  Floats most = _mm512_set1_ps(kSmallest);
  for (long i = 0; i < n; i += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_load_ps(x + i)));
  return _mm512_reduce_max_ps(most);
}

inline Ints rounded(const float* x, Floats by) { return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(x), by)); }

// Transposes a 16 x 16 matrix.
inline void transpose(Ints (&rows)[16]) {
  Ints pairs[16], fours[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int c = 0; c < 2; c++) {
      fours[i + 2 * c] = _mm512_unpacklo_epi64(pairs[i + c], pairs[i + c + 2]);
      fours[i + 2 * c + 1] = _mm512_unpackhi_epi64(pairs[i + c], pairs[i + c + 2]);
    }
  }
  for (int c = 0; c < 4; c++) {
    Ints even = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0x88), odd = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0xdd);
    Ints more_even = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0x88);
    Ints more_odd = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0xdd);
    rows[c] = _mm512_shuffle_i32x4(even, more_even, 0x88);
    rows[4 + c] = _mm512_shuffle_i32x4(odd, more_odd, 0x88);
    rows[8 + c] = _mm512_shuffle_i32x4(even, more_even, 0xdd);
    rows[12 + c] = _mm512_shuffle_i32x4(odd, more_odd, 0xdd);
  }
}

// Rounds 32 values to words.
inline Ints words(const float* x, Floats by) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(rounded(x, by))),
                            _mm512_cvtepi32_epi16(rounded(x + 16, by)), 1);
}

inline void store_words(int16_t* to, Ints values) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(values));
}

}  // namespace bert
