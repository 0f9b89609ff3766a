// A BERT encoder with a question-answering head that multiplies integers.
//
// Weights are signed bytes with a scale per output. Activations are bytes with a scale and an offset per token, computed
// at run time: nothing is calibrated, and a token's result does not depend on the other sequences of its batch.
// Queries, keys, values and attention weights are 16-bit words. Everything else is float.
//
// Sequences are stored one after the other without padding. Only attention's keys and values are padded and masked.

#include "kernels.h"
#include "threads.h"

namespace bert {
namespace {

// Sums of 128 products of queries and keys stay below 2^31 with 12 bits and a sign. Sums of products of values and
// attention weights, which add up to kFine, do so with 15 bits.
constexpr float kQueryLevels = 4095.0f;
constexpr float kFine = 32767.0f;
// With fewer rows per thread, threads divide columns instead, so each reads fewer weights.
constexpr long kFewRows = 24;

struct Shape {
  int64_t layers, hidden, heads, intermediate, words, positions, types;
  double epsilon;
};

// Largest accepted sizes; containers/encoder/engines/vnni_weights.py has the same limits. Sums of 65536 products of
// bytes stay below 2^31, and so do sums of 32768 rounded attention weights. Sizes in bytes stay far below 2^63.
constexpr int64_t kMaxLayers = 1024, kMaxWidth = 65536, kMaxWords = 1 << 24, kMaxPositions = 32768, kMaxTypes = 65536;
constexpr int64_t kMaxHeadSize = 128;
constexpr int64_t kMaxThreads = 1024, kMaxSequences = 1 << 20, kMaxTokens = 1 << 24;

bool between(int64_t least, int64_t value, int64_t most) { return least <= value && value <= most; }

bool valid(const Shape& shape) {
  if (!between(1, shape.layers, kMaxLayers) || !between(kPanel, shape.hidden, kMaxWidth) ||
      !between(1, shape.heads, shape.hidden) || !between(kPanel, shape.intermediate, kMaxWidth) ||
      !between(1, shape.words, kMaxWords) || !between(1, shape.positions, kMaxPositions) ||
      !between(1, shape.types, kMaxTypes))
    return false;
  int64_t size = shape.hidden / shape.heads;
  return size * shape.heads == shape.hidden && size % kPanel == 0 && size <= kMaxHeadSize &&
         shape.intermediate % kPanel == 0 && float(shape.epsilon) > 0.0f && shape.epsilon <= 1.0;
}

// sums: scale times the sum of an output's weights, which an input offset of 1 adds to that output.
struct Linear {
  long inputs, outputs;
  int8_t* panels;
  float *scale, *sums, *bias;
};

struct Normalization {
  float *gamma, *beta;
};

struct Layer {
  Linear qkv, attended, up, down;
  Normalization after_attention, after_feed_forward;
};

struct Encoder {
  Shape shape;
  char* memory;
  int8_t* words;
  float *word_scale, *positions, *types, *head, *head_bias;
  Normalization embedded;
  Layer* layers;
};

Linear linear(Arena& arena, long inputs, long outputs) {
  return Linear{inputs, outputs, arena.take<int8_t>(inputs * outputs), arena.take<float>(outputs), arena.take<float>(outputs),
                arena.take<float>(outputs)};
}

Normalization normalization(Arena& arena, long n) { return Normalization{arena.take<float>(n), arena.take<float>(n)}; }

// Assigns memory to all arrays and returns its size; with null, only computes the size.
size_t place(Encoder* encoder, char* memory) {
  const Shape& shape = encoder->shape;
  Arena arena(memory);
  Encoder at{};
  at.shape = shape;
  at.memory = memory;
  at.layers = arena.take<Layer>(shape.layers);
  at.words = arena.take<int8_t>(shape.words * shape.hidden);
  at.word_scale = arena.take<float>(shape.words);
  at.positions = arena.take<float>(shape.positions * shape.hidden);
  at.types = arena.take<float>(shape.types * shape.hidden);
  at.embedded = normalization(arena, shape.hidden);
  at.head = arena.take<float>(2 * shape.hidden);
  at.head_bias = arena.take<float>(2);
  for (long i = 0; i < shape.layers; i++) {
    Layer layer{linear(arena, shape.hidden, 3 * shape.hidden), linear(arena, shape.hidden, shape.hidden),
                linear(arena, shape.hidden, shape.intermediate), linear(arena, shape.intermediate, shape.hidden),
                normalization(arena, shape.hidden), normalization(arena, shape.hidden)};
    if (memory) at.layers[i] = layer;
  }
  *encoder = at;
  return arena.used();
}

// Keys and values of a layer, one block per sequence and head. Two layers are kept: a thread that is ahead writes the
// next layer's while another still reads this layer's.
struct Kept {
  int16_t *keys, *values;
  float *key_scale, *value_scale;
};

// A sequence: its first token, its tokens, where its keys and values begin, and its tokens padded to whole panels.
struct Sequence {
  long first, tokens, kept, padded;
};

struct Group {
  Barrier barrier;
  long begin, end;
};

struct Session {
  const Encoder* encoder;
  int threads;
  Team team;
  Barrier all;
  Group* groups;
  int members;
  char** scratch;

  char* memory;
  long capacity, kept_capacity, sequence_capacity;
  Sequence* sequences;
  float *x, *y, *qkv, *inner, *scale, *zero;
  uint8_t *bytes, *wide;
  Kept kept[2];

  const int32_t *ids, *types;
  long count, tokens;
  float *start, *end;
};

struct Range {
  long begin, end;
};

// Rounds a number of keys up to whole panels.
long whole_panels(long keys) { return (keys + kPanel - 1) / kPanel * kPanel; }

Range part(long begin, long end, long which, long parts) {
  return Range{begin + (end - begin) * which / parts, begin + (end - begin) * (which + 1) / parts};
}

// Returns this row or the one before, so that it is an even number of rows into its sequence: the values of two rows
// are interleaved in memory, and one thread writes both.
long even(const Session* s, long row) {
  for (long i = 0; i < s->count; i++) {
    const Sequence& sequence = s->sequences[i];
    if (row < sequence.first + sequence.tokens) return row - ((row - sequence.first) & 1);
  }
  return row;
}

// Calls each(sequence, first row, end row) for every sequence with rows in the range.
template <class Each>
void sequences_of(const Session* s, Range rows, Each&& each) {
  for (long i = 0; i < s->count; i++) {
    const Sequence& sequence = s->sequences[i];
    long last = sequence.first + sequence.tokens;
    long begin = rows.begin > sequence.first ? rows.begin : sequence.first, end = rows.end < last ? rows.end : last;
    if (begin < end) each(sequence, begin, end);
  }
}

struct Worker {
  Session* s;
  int thread, member;
  Group* group;
  Range rows;  // rows of the element-wise steps
};

void embed(const Worker& w) {
  const Session* s = w.s;
  const Encoder* e = s->encoder;
  long h = e->shape.hidden;
  sequences_of(s, w.rows, [&](const Sequence& sequence, long begin, long end) {
    for (long t = begin; t < end; t++) {
      const int8_t* word = e->words + s->ids[t] * h;
      const float *position = e->positions + (t - sequence.first) * h, *type = e->types + s->types[t] * h;
      Floats by = _mm512_set1_ps(e->word_scale[s->ids[t]]);
      for (long d = 0; d < h; d += 16) {
        Floats value = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(word + d))));
        Floats rest = _mm512_add_ps(_mm512_load_ps(position + d), _mm512_load_ps(type + d));
        _mm512_store_ps(s->x + t * h + d, _mm512_fmadd_ps(value, by, rest));
      }
      normalize(s->x + t * h, nullptr, h, e->embedded.gamma, e->embedded.beta, e->shape.epsilon);
    }
  });
}

void quantize_rows(const Worker& w, const float* x, long n, uint8_t* bytes) {
  for (long t = w.rows.begin; t < w.rows.end; t++) quantize(x + t * n, n, bytes + t * n, w.s->scale + t, w.s->zero + t);
}

void add_and_normalize(const Worker& w, const Normalization& by) {
  const Session* s = w.s;
  long h = s->encoder->shape.hidden;
  for (long t = w.rows.begin; t < w.rows.end; t++)
    normalize(s->x + t * h, s->y + t * h, h, by.gamma, by.beta, s->encoder->shape.epsilon);
}

// Multiplies the group's rows by this member's share of the columns.
template <bool Activated>
void multiply(const Worker& w, const Linear& of, const uint8_t* bytes, float* to) {
  const Session* s = w.s;
  Range panels = part(0, of.outputs / kPanel, w.member, s->members);
  long size = of.inputs * kPanel;
  for (long panel = panels.begin; panel < panels.end; panel++) {
    const float *scale = of.scale + panel * kPanel, *sums = of.sums + panel * kPanel, *bias = of.bias + panel * kPanel;
    Floats scale0 = _mm512_load_ps(scale), scale1 = _mm512_load_ps(scale + 16);
    Floats sums0 = _mm512_load_ps(sums), sums1 = _mm512_load_ps(sums + 16);
    Floats bias0 = _mm512_load_ps(bias), bias1 = _mm512_load_ps(bias + 16);
    const char* weights = reinterpret_cast<const char*>(of.panels) + panel * size;
    tiles_of(w.group->begin, w.group->end, [&](long row, long rows, long t, long tiles) {
      long lines = (size / 64 + tiles - 1) / tiles;
      Ahead ahead{weights + size + t * lines * 64, lines};
      tile_of<Bytes>(rows, bytes + row * of.inputs, of.inputs, weights, of.inputs / 4, ahead, [&](int r, Ints a, Ints b) {
        Floats by = _mm512_set1_ps(s->scale[row + r]), zero = _mm512_set1_ps(s->zero[row + r]);
        Floats first = _mm512_fmadd_ps(_mm512_mul_ps(by, scale0), _mm512_cvtepi32_ps(a), _mm512_fnmadd_ps(zero, sums0, bias0));
        Floats second = _mm512_fmadd_ps(_mm512_mul_ps(by, scale1), _mm512_cvtepi32_ps(b), _mm512_fnmadd_ps(zero, sums1, bias1));
        float* out = to + (row + r) * of.outputs + panel * kPanel;
        _mm512_store_ps(out, Activated ? gelu(first) : first);
        _mm512_store_ps(out + 16, Activated ? gelu(second) : second);
      });
    });
  }
}

// Stores keys and values of this worker's rows as words, in panels: 32 keys with two dimensions interleaved, and 32
// dimensions of the values with two rows interleaved.
void keep(const Worker& w, const Kept& to) {
  const Session* s = w.s;
  const Shape& shape = s->encoder->shape;
  long h = shape.hidden, size = h / shape.heads;
  sequences_of(s, w.rows, [&](const Sequence& sequence, long first, long last) {
    long begin = first - sequence.first, end = last - sequence.first;
    for (long head = 0; head < shape.heads; head++) {
      long at = (sequence.kept * shape.heads + head * sequence.padded) * size;
      long scales = sequence.kept * shape.heads + head * sequence.padded;
      const float* k = s->qkv + sequence.first * 3 * h + h + head * size;
      int32_t* keys = reinterpret_cast<int32_t*>(to.keys + at);
      int32_t* values = reinterpret_cast<int32_t*>(to.values + at);
      for (long j = begin; j < end;) {
        long rows = j % 16 || j + 16 > end ? 1 : 16;
        float by[16];
        for (long r = 0; r < rows; r++) {
          float most = largest(k + (j + r) * 3 * h, size);
          to.key_scale[scales + j + r] = most / kQueryLevels;
          by[r] = kQueryLevels / most;
        }
        for (long d = 0; d < size; d += 32) {
          Ints lines[16];
          for (long r = 0; r < rows; r++) lines[r] = words(k + (j + r) * 3 * h + d, _mm512_set1_ps(by[r]));
          int32_t* column = keys + (j / kPanel * size + d) / 2 * kPanel + j % kPanel;
          if (rows == 16) {
            transpose(lines);
            for (int i = 0; i < 16; i++) _mm512_store_si512(column + i * kPanel, lines[i]);
          } else {
            alignas(64) int32_t pairs[16];
            _mm512_store_si512(pairs, lines[0]);
            for (int i = 0; i < 16; i++) column[i * kPanel] = pairs[i];
          }
        }
        j += rows;
      }
      const float* v = k + h;
      for (long j = begin; j < end; j += 2) {
        bool pair = j + 1 < end;
        const float *row = v + j * 3 * h, *next = pair ? row + 3 * h : row;
        float most = largest(row, size), other = largest(next, size);
        to.value_scale[scales + j] = most / kFine;
        if (pair) to.value_scale[scales + j + 1] = other / kFine;
        Floats by = _mm512_set1_ps(kFine / most), next_by = _mm512_set1_ps(kFine / other);
        for (long d = 0; d < size; d += 16) {
          Ints low = rounded(row + d, by), high = _mm512_slli_epi32(rounded(next + d, next_by), 16);
          int32_t* line = values + d / kPanel * (sequence.padded / 2) * kPanel + j / 2 * kPanel + d % kPanel;
          _mm512_store_si512(line, _mm512_mask_blend_epi16(0xAAAAAAAA, low, high));
        }
      }
    }
  });
}

size_t scratch_bytes(const Shape& shape) {
  Arena arena;
  long most = whole_panels(shape.positions);
  arena.take<int16_t>(kRows * shape.hidden / shape.heads);
  arena.take<float>(kRows * most);
  arena.take<int16_t>(kRows * most);
  return arena.used();
}

// Computes attention for up to 12 rows of a sequence in one head.
void attend(const Worker& w, const Sequence& sequence, long head, long row, long rows, const Kept& kept) {
  const Session* s = w.s;
  const Shape& shape = s->encoder->shape;
  long h = shape.hidden, size = h / shape.heads, wide = sequence.padded;
  long at = (sequence.kept * shape.heads + head * wide) * size, scales = sequence.kept * shape.heads + head * wide;
  const int16_t *keys = kept.keys + at, *values = kept.values + at;
  const float *key_scale = kept.key_scale + scales, *value_scale = kept.value_scale + scales;
  Arena arena(s->scratch[w.thread]);
  int16_t* queries = arena.take<int16_t>(kRows * size);
  float* scores = arena.take<float>(kRows * wide);
  int16_t* shares = arena.take<int16_t>(kRows * wide);
  const Floats none = _mm512_set1_ps(-1e30f);
  const float to_two = 1.44269504f;  // log2(e): attention weights are computed as powers of two
  Floats top[kRows];
  float query_scale[kRows];
  for (long r = 0; r < rows; r++) {
    const float* query = s->qkv + (row + r) * 3 * h + head * size;
    float most = largest(query, size);
    query_scale[r] = most / kQueryLevels * to_two / __builtin_sqrtf(float(size));
    for (long d = 0; d < size; d += 16)
      store_words(queries + r * size + d, rounded(query + d, _mm512_set1_ps(kQueryLevels / most)));
    top[r] = none;
  }
  for (long begin = 0; begin < wide; begin += kPanel) {
    Floats scale0 = _mm512_load_ps(key_scale + begin), scale1 = _mm512_load_ps(key_scale + begin + 16);
    const int16_t* panel = keys + begin * size;
    auto store = [&](int r, Floats first, Floats second) {
      top[r] = _mm512_max_ps(top[r], _mm512_max_ps(first, second));
      _mm512_store_ps(scores + r * wide + begin, first);
      _mm512_store_ps(scores + r * wide + begin + 16, second);
    };
    long left = sequence.tokens - begin;
    if (left >= kPanel) {
      tile_of<Words>(rows, queries, size * 2, panel, size / 2, Ahead{}, [&](int r, Ints a, Ints b) {
        store(r, _mm512_mul_ps(scale0, _mm512_cvtepi32_ps(a)), _mm512_mul_ps(scale1, _mm512_cvtepi32_ps(b)));
      });
    } else {
      uint32_t there = (1u << left) - 1;
      tile_of<Words>(rows, queries, size * 2, panel, size / 2, Ahead{}, [&](int r, Ints a, Ints b) {
        store(r, _mm512_mask_mul_ps(none, there & 0xFFFF, scale0, _mm512_cvtepi32_ps(a)),
              _mm512_mask_mul_ps(none, there >> 16, scale1, _mm512_cvtepi32_ps(b)));
      });
    }
  }
  float out_scale[kRows];
  for (long r = 0; r < rows; r++) {
    float* line = scores + r * wide;
    Floats scale = _mm512_set1_ps(query_scale[r]), sum = _mm512_setzero_ps(), scaled = sum;
    Floats most = _mm512_mul_ps(scale, _mm512_set1_ps(_mm512_reduce_max_ps(top[r])));
    for (long j = 0; j < wide; j += 16) {
      Floats share = power_of_two(_mm512_fmsub_ps(scale, _mm512_load_ps(line + j), most));
      sum = _mm512_add_ps(sum, share);
      share = _mm512_mul_ps(share, _mm512_load_ps(value_scale + j));
      scaled = _mm512_add_ps(scaled, share);
      _mm512_store_ps(line + j, share);
    }
    float whole = _mm512_reduce_add_ps(scaled);
    out_scale[r] = whole / kFine / _mm512_reduce_add_ps(sum);
    Floats by = _mm512_set1_ps(kFine / whole);
    for (long j = 0; j < wide; j += 16) store_words(shares + r * wide + j, rounded(line + j, by));
  }
  for (long d = 0; d < size; d += kPanel)
    tile_of<Words>(rows, shares, wide * 2, values + d * wide, wide / 2, Ahead{}, [&](int r, Ints a, Ints b) {
      Floats by = _mm512_set1_ps(out_scale[r]);
      float* out = s->y + (row + r) * h + head * size + d;
      _mm512_store_ps(out, _mm512_mul_ps(by, _mm512_cvtepi32_ps(a)));
      _mm512_store_ps(out + 16, _mm512_mul_ps(by, _mm512_cvtepi32_ps(b)));
    });
}

// Computes attention for the group's rows in this member's share of the heads.
void attend_rows(const Worker& w, const Kept& kept) {
  Range heads = part(0, w.s->encoder->shape.heads, w.member, w.s->members);
  sequences_of(w.s, Range{w.group->begin, w.group->end}, [&](const Sequence& sequence, long begin, long end) {
    for (long head = heads.begin; head < heads.end; head++)
      tiles_of(begin, end, [&](long row, long rows, long, long) { attend(w, sequence, head, row, rows, kept); });
  });
}

void answer(const Worker& w) {
  const Session* s = w.s;
  const Encoder* e = s->encoder;
  long h = e->shape.hidden;
  for (long t = w.rows.begin; t < w.rows.end; t++) {
    Floats start = _mm512_setzero_ps(), end = start;
    for (long d = 0; d < h; d += 16) {
      Floats value = _mm512_load_ps(s->x + t * h + d);
      start = _mm512_fmadd_ps(value, _mm512_load_ps(e->head + d), start);
      end = _mm512_fmadd_ps(value, _mm512_load_ps(e->head + h + d), end);
    }
    s->start[t] = _mm512_reduce_add_ps(start) + e->head_bias[0];
    s->end[t] = _mm512_reduce_add_ps(end) + e->head_bias[1];
  }
}

void work(void* given, int thread) {
  Session* s = static_cast<Session*>(given);
  const Shape& shape = s->encoder->shape;
  long h = shape.hidden;
  Worker w{s, thread, thread % s->members, s->groups + thread / s->members, Range{}};
  Range rows = part(w.group->begin, w.group->end, w.member, s->members);
  w.rows = Range{w.member ? even(s, rows.begin) : rows.begin, w.member + 1 < s->members ? even(s, rows.end) : rows.end};
  embed(w);
  for (long i = 0; i < shape.layers; i++) {
    const Layer& layer = s->encoder->layers[i];
    const Kept& kept = s->kept[i & 1];
    quantize_rows(w, s->x, h, s->bytes);
    w.group->barrier.meet();
    multiply<false>(w, layer.qkv, s->bytes, s->qkv);
    w.group->barrier.meet();
    keep(w, kept);
    s->all.meet();
    attend_rows(w, kept);
    w.group->barrier.meet();
    quantize_rows(w, s->y, h, s->bytes);
    w.group->barrier.meet();
    multiply<false>(w, layer.attended, s->bytes, s->y);
    w.group->barrier.meet();
    add_and_normalize(w, layer.after_attention);
    quantize_rows(w, s->x, h, s->bytes);
    w.group->barrier.meet();
    multiply<true>(w, layer.up, s->bytes, s->inner);
    w.group->barrier.meet();
    quantize_rows(w, s->inner, shape.intermediate, s->wide);
    w.group->barrier.meet();
    multiply<false>(w, layer.down, s->wide, s->y);
    w.group->barrier.meet();
    add_and_normalize(w, layer.after_feed_forward);
  }
  answer(w);
  s->all.meet();
}

// Makes room for these numbers of tokens, keys and sequences; false if memory runs out.
bool fit(Session* s, long tokens, long kept, long sequences) {
  if (tokens <= s->capacity && kept <= s->kept_capacity && sequences <= s->sequence_capacity) return true;
  tokens = ((tokens > s->capacity ? tokens : s->capacity) + 63) & ~63L;
  kept = ((kept > s->kept_capacity ? kept : s->kept_capacity) + 63) & ~63L;
  sequences = ((sequences > s->sequence_capacity ? sequences : s->sequence_capacity) + 7) & ~7L;
  const Shape& shape = s->encoder->shape;
  long h = shape.hidden;
  free(s->memory);
  s->memory = nullptr;
  s->capacity = s->kept_capacity = s->sequence_capacity = 0;
  for (int pass = 0; pass < 2; pass++) {
    Arena arena(s->memory);
    s->sequences = arena.take<Sequence>(sequences);
    s->x = arena.take<float>(tokens * h);
    s->y = arena.take<float>(tokens * h);
    s->qkv = arena.take<float>(tokens * 3 * h);
    s->inner = arena.take<float>(tokens * shape.intermediate);
    s->scale = arena.take<float>(tokens);
    s->zero = arena.take<float>(tokens);
    s->bytes = arena.take<uint8_t>(tokens * h);
    s->wide = arena.take<uint8_t>(tokens * shape.intermediate);
    for (Kept& each : s->kept)
      each = Kept{arena.take<int16_t>(kept * h), arena.take<int16_t>(kept * h), arena.take<float>(kept * shape.heads),
                  arena.take<float>(kept * shape.heads)};
    if (!pass && !(s->memory = pages(arena.used()))) return false;
  }
  s->capacity = tokens;
  s->kept_capacity = kept;
  s->sequence_capacity = sequences;
  return true;
}

// Returns whether the model has embeddings for all ids, types and lengths.
bool known(const Shape& shape, const int32_t* ids, const int32_t* types, const int32_t* lengths, long count) {
  if (!ids || !types || !lengths || !between(1, count, kMaxSequences)) return false;
  long tokens = 0;
  for (long i = 0; i < count; i++) {
    if (!between(1, lengths[i], shape.positions)) return false;
    tokens += lengths[i];
    if (tokens > kMaxTokens) return false;
  }
  for (long t = 0; t < tokens; t++)
    if (!between(0, ids[t], shape.words - 1) || !between(0, types[t], shape.types - 1)) return false;
  return true;
}

// Divides the threads into groups, which share the rows, and each group into members, which share its columns.
void divide(Session* s) {
  int members = 1;
  while (members < s->threads && (s->threads % members || s->tokens * members < kFewRows * s->threads)) members++;
  s->members = members;
  int groups = s->threads / members;
  for (int i = 0; i < groups; i++) {
    Range rows = part(0, s->tokens, i, groups);
    s->groups[i].begin = i ? even(s, rows.begin) : 0;
    s->groups[i].end = i + 1 < groups ? even(s, rows.end) : s->tokens;
    s->groups[i].barrier.expect(members);
  }
}

}  // namespace
}  // namespace bert

using namespace bert;

extern "C" {

// Read before any function is called: the version of these functions, which must match
// containers/encoder/engines/vnni.py, and the instruction set that they need, named as in /proc/cpuinfo.
extern const int32_t encoder_abi_version;
extern const char encoder_instruction_set[16];
const int32_t encoder_abi_version = 2;
#ifdef __AVX512VNNI__
const char encoder_instruction_set[16] = "avx512_vnni";
#else
const char encoder_instruction_set[16] = "";
#endif

// Returns null for an unsupported shape, or if memory runs out.
Encoder* encoder_new(const Shape* shape) {
  if (!shape || !valid(*shape)) return nullptr;
  Encoder* encoder = static_cast<Encoder*>(calloc(1, sizeof(Encoder)));
  if (!encoder) return nullptr;
  encoder->shape = *shape;
  char* memory = pages(place(encoder, nullptr));
  if (!memory) {
    free(encoder);
    return nullptr;
  }
  place(encoder, memory);
  return encoder;
}

void encoder_free(Encoder* encoder) {
  if (!encoder) return;
  free(encoder->memory);
  free(encoder);
}

void encoder_embeddings(Encoder* e, const int8_t* words, const float* scale, const float* positions, const float* types) {
  const Shape& shape = e->shape;
  memcpy(e->words, words, shape.words * shape.hidden);
  memcpy(e->word_scale, scale, shape.words * sizeof(float));
  memcpy(e->positions, positions, shape.positions * shape.hidden * sizeof(float));
  memcpy(e->types, types, shape.types * shape.hidden * sizeof(float));
}

void encoder_head(Encoder* e, const float* weights, const float* bias) {
  memcpy(e->head, weights, 2 * e->shape.hidden * sizeof(float));
  memcpy(e->head_bias, bias, 2 * sizeof(float));
}

// layer: -1 for the embeddings. which: 0 after attention, 1 after the feed-forward part. Returns false for other values.
bool encoder_normalization(Encoder* e, int64_t layer, int64_t which, const float* gamma, const float* beta) {
  if (!between(-1, layer, e->shape.layers - 1) || !between(0, which, 1)) return false;
  Normalization& to = layer < 0 ? e->embedded : which ? e->layers[layer].after_feed_forward : e->layers[layer].after_attention;
  memcpy(to.gamma, gamma, e->shape.hidden * sizeof(float));
  memcpy(to.beta, beta, e->shape.hidden * sizeof(float));
  return true;
}

// which: 0 to 2 for query, key and value; 3 for attention's output; 4 and 5 for up and down in the feed-forward part.
// weights: one row per output. Returns false for another layer or part.
bool encoder_linear(Encoder* e, int64_t layer, int64_t which, const int8_t* weights, const float* scale, const float* bias) {
  if (!between(0, layer, e->shape.layers - 1) || !between(0, which, 5)) return false;
  Layer& in = e->layers[layer];
  Linear& to = which < 3 ? in.qkv : which == 3 ? in.attended : which == 4 ? in.up : in.down;
  long count = which < 3 ? to.outputs / 3 : to.outputs, first = which < 3 ? which * count : 0;
  for (long n = 0; n < count; n++) {
    const int8_t* row = weights + n * to.inputs;
    char* column = reinterpret_cast<char*>(to.panels + (first + n) / kPanel * to.inputs * kPanel) + (first + n) % kPanel * 4;
    int32_t sum = 0;
    for (long k = 0; k < to.inputs; k++) sum += row[k];
    for (long k = 0; k < to.inputs; k += 4) memcpy(column + k * kPanel, row + k, 4);
    to.scale[first + n] = scale[n];
    to.sums[first + n] = scale[n] * sum;
    to.bias[first + n] = bias[n];
  }
  return true;
}

void session_free(Session* s) {
  if (!s) return;
  s->team.stop();
  for (int i = 0; s->scratch && i < s->threads; i++) free(s->scratch[i]);
  free(s->scratch);
  free(s->groups);
  free(s->memory);
  free(s);
}

// A session may run for one caller at a time, on the caller's thread and threads - 1 more. Returns null for an invalid
// number of threads, or if memory or threads run out.
Session* session_new(const Encoder* encoder, int64_t threads) {
  if (!encoder || !between(1, threads, kMaxThreads)) return nullptr;
  Session* s = static_cast<Session*>(aligned_alloc(64, sizeof(Session)));
  if (!s) return nullptr;
  memset(static_cast<void*>(s), 0, sizeof(Session));
  s->encoder = encoder;
  s->threads = threads;
  s->all.expect(threads);
  s->scratch = static_cast<char**>(calloc(threads, sizeof(char*)));
  s->groups = static_cast<Group*>(aligned_alloc(64, threads * sizeof(Group)));
  bool made = s->scratch && s->groups;
  if (made) memset(static_cast<void*>(s->groups), 0, threads * sizeof(Group));
  for (int i = 0; made && i < threads; i++) made = (s->scratch[i] = pages(scratch_bytes(encoder->shape)));
  if (made && s->team.start(threads, work, s)) return s;
  session_free(s);
  return nullptr;
}

// ids, types: one per token. lengths: tokens of each sequence. start, end: logits, one per token.
// Returns false for a value without an embedding, before reading any weights, or if memory runs out.
bool session_run(Session* s, const int32_t* ids, const int32_t* types, const int32_t* lengths, int64_t count, float* start,
                 float* end) {
  if (!s || !start || !end || !known(s->encoder->shape, ids, types, lengths, count)) return false;
  long tokens = 0, kept = 0;
  for (long i = 0; i < count; i++) {
    tokens += lengths[i];
    kept += whole_panels(lengths[i]);
  }
  if (!fit(s, tokens, kept, count)) return false;
  long heads = s->encoder->shape.heads;
  long first = 0, at = 0;
  for (long i = 0; i < count; i++) {
    long padded = whole_panels(lengths[i]);
    s->sequences[i] = Sequence{first, lengths[i], at, padded};
    first += lengths[i];
    at += padded;
  }
  // Padded keys have attention weight 0, but 0 times an uninitialized scale could be NaN.
  for (Kept& each : s->kept) memset(each.value_scale, 0, kept * heads * sizeof(float));
  s->ids = ids;
  s->types = types;
  s->count = count;
  s->tokens = tokens;
  s->start = start;
  s->end = end;
  divide(s);
  s->team.run();
  return true;
}
}
