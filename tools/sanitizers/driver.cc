// Feeds the encoder's C functions random and adversarial input for some seconds: `driver SEED SECONDS`.
//
// A sanitizer's report, a signal, a wrong result, or a call that accepts invalid input ends the process with a nonzero
// exit code. Every array that is passed ends at the end of its memory.

#include "encoder.cc"

#include <stdio.h>
#include <time.h>

#ifdef WITHOUT_CPP_LIBRARY
void* operator new(size_t bytes) { return malloc(bytes); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
#endif

namespace {

uint64_t state;

// xorshift64*: the same seed gives the same rounds everywhere.
uint64_t next() {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 2685821657736338717ull;
}

int64_t between_random(int64_t least, int64_t most) { return least + int64_t(next() % uint64_t(most - least + 1)); }

float unit() { return float(next() >> 40) / float(1 << 24) * 2.0f - 1.0f; }

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "driver: %s\n", what);
  fflush(stderr);
  abort();
}

void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

// An array that ends where its memory ends: a heap block if AddressSanitizer is watching, else a page.
template <class T>
class Array {
 public:
  explicit Array(int64_t count) : count_(count) {
#ifdef BERT_RED_ZONES
    memory_ = static_cast<char*>(malloc(count * sizeof(T)));
    at = reinterpret_cast<T*>(memory_);
#else
    size_t page = sysconf(_SC_PAGESIZE), bytes = count * sizeof(T);
    size_t whole = (bytes + page - 1) / page * page;
    size_ = whole + page;
    void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(mapped != MAP_FAILED, "no memory for an array");
    memory_ = static_cast<char*>(mapped);
    mprotect(memory_ + whole, page, PROT_NONE);
    at = reinterpret_cast<T*>(memory_ + whole - bytes);
#endif
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() {
#ifdef BERT_RED_ZONES
    free(memory_);
#else
    munmap(memory_, size_);
#endif
  }
  int64_t size() const { return count_; }
  T* at;

 private:
  int64_t count_;
  char* memory_;
#ifndef BERT_RED_ZONES
  size_t size_;
#endif
};

enum Numbers { kOrdinary, kLarge, kTiny, kNotNumbers, kKinds };

void fill_floats(Array<float>& to, float spread, Numbers numbers) {
  for (int64_t i = 0; i < to.size(); i++) {
    float value = unit() * spread;
    if (numbers == kLarge) value *= 1e37f;
    if (numbers == kTiny) value *= 1e-38f;
    if (numbers == kNotNumbers && next() % 8 == 0) value = next() % 2 ? __builtin_nanf("") : -__builtin_inff();
    to.at[i] = value;
  }
}

void fill_bytes(Array<int8_t>& to) {
  bool extreme = next() % 4 == 0;
  for (int64_t i = 0; i < to.size(); i++) to.at[i] = extreme ? (next() % 2 ? 127 : -128) : int8_t(next());
}

Shape random_shape() {
  Shape shape{};
  int64_t size = 32 * (next() % 2 ? 1 : between_random(1, 4));
  shape.heads = between_random(1, size > 32 ? 1 : 3);
  shape.hidden = size * shape.heads;
  shape.layers = between_random(1, 2);
  shape.intermediate = 32 * between_random(1, 4);
  shape.words = between_random(1, 50);
  shape.positions = between_random(1, 90);
  shape.types = between_random(1, 3);
  shape.epsilon = 1e-12;
  return shape;
}

void weigh(Encoder* e, const Shape& shape, Numbers numbers) {
  Array<int8_t> words(shape.words * shape.hidden);
  Array<float> scale(shape.words), positions(shape.positions * shape.hidden), types(shape.types * shape.hidden);
  fill_bytes(words);
  fill_floats(scale, 0.01f, numbers);
  fill_floats(positions, 1.0f, numbers);
  fill_floats(types, 1.0f, numbers);
  encoder_embeddings(e, words.at, scale.at, positions.at, types.at);
  Array<float> head(2 * shape.hidden), head_bias(2), gamma(shape.hidden), beta(shape.hidden);
  fill_floats(head, 1.0f, numbers);
  fill_floats(head_bias, 1.0f, numbers);
  encoder_head(e, head.at, head_bias.at);
  for (int64_t layer = -1; layer < shape.layers; layer++)
    for (int64_t which = 0; which < (layer < 0 ? 1 : 2); which++) {
      fill_floats(gamma, 1.0f, numbers);
      fill_floats(beta, 1.0f, numbers);
      require(encoder_normalization(e, layer, which, gamma.at, beta.at), "a normalization was refused");
    }
  for (int64_t layer = 0; layer < shape.layers; layer++)
    for (int64_t which = 0; which < 6; which++) {
      int64_t outputs = which == 4 ? shape.intermediate : shape.hidden;
      int64_t inputs = which == 5 ? shape.intermediate : shape.hidden;
      Array<int8_t> weights(outputs * inputs);
      Array<float> scales(outputs), bias(outputs);
      fill_bytes(weights);
      fill_floats(scales, 0.01f, numbers);
      fill_floats(bias, 1.0f, numbers);
      require(encoder_linear(e, layer, which, weights.at, scales.at, bias.at), "a product was refused");
    }
  const int64_t wrong[] = {INT64_MIN, -2, shape.layers, INT64_MAX};
  for (int64_t layer : wrong) {
    require(!encoder_normalization(e, layer, 0, gamma.at, beta.at), "a layer that is not there has a normalization");
    require(!encoder_linear(e, layer, 0, words.at, scale.at, scale.at), "a layer that is not there has a product");
  }
  require(!encoder_normalization(e, 0, 2, gamma.at, beta.at), "a third normalization was accepted");
  require(!encoder_linear(e, 0, 6, words.at, scale.at, scale.at), "a seventh product was accepted");
  require(!encoder_linear(e, 0, -1, words.at, scale.at, scale.at), "a negative product was accepted");
}

// Sequences of random lengths, with a bias toward the shortest and the longest.
struct Batch {
  Array<int32_t> lengths, ids, types;
  Array<float> start, end;

  static int32_t length(const Shape& shape) {
    switch (next() % 4) {
      case 0: return 1;
      case 1: return int32_t(shape.positions);
      default: return int32_t(between_random(1, shape.positions));
    }
  }
  Batch(const Shape& shape, int64_t count, int64_t tokens, const int32_t* of)
      : lengths(count), ids(tokens), types(tokens), start(tokens), end(tokens) {
    memcpy(lengths.at, of, count * sizeof(int32_t));
    for (int64_t t = 0; t < tokens; t++) {
      ids.at[t] = int32_t(next() % 4 ? between_random(0, shape.words - 1) : shape.words - 1);
      types.at[t] = int32_t(between_random(0, shape.types - 1));
    }
  }
};

Batch* random_batch(const Shape& shape) {
  int32_t lengths[4];
  int64_t count = between_random(1, 4), tokens = 0;
  for (int64_t i = 0; i < count; i++) tokens += lengths[i] = Batch::length(shape);
  return new Batch(shape, count, tokens, lengths);
}

bool run(Session* s, Batch& b) {
  return session_run(s, b.ids.at, b.types.at, b.lengths.at, b.lengths.size(), b.start.at, b.end.at);
}

void refuse_bad_batches(Session* s, const Shape& shape, Batch& b) {
  const int32_t bad[] = {INT32_MIN, -1, INT32_MAX};
  int64_t token = between_random(0, b.ids.size() - 1), sequence = between_random(0, b.lengths.size() - 1);
  for (int which = 0; which < 4; which++) {
    int32_t& at = which == 0 ? b.ids.at[token] : which == 1 ? b.types.at[token] : b.lengths.at[sequence];
    int32_t before = at;
    int64_t beyond = which == 0 ? shape.words : which == 1 ? shape.types : which == 2 ? shape.positions + 1 : 0;
    at = int32_t(beyond);
    require(!run(s, b), "what the model has no embedding of was run");
    for (int32_t value : bad) {
      at = value;
      require(!run(s, b), "an id or a length out of range was run");
    }
    at = before;
  }
  const int64_t counts[] = {INT64_MIN, -1, 0, int64_t(1) << 40, INT64_MAX};
  for (int64_t count : counts)
    require(!session_run(s, b.ids.at, b.types.at, b.lengths.at, count, b.start.at, b.end.at), "a wrong count was run");
  require(!session_run(s, nullptr, b.types.at, b.lengths.at, 1, b.start.at, b.end.at), "no ids were run");
  require(!session_run(s, b.ids.at, b.types.at, b.lengths.at, 1, nullptr, b.end.at), "no room for logits was accepted");
  require(!session_run(nullptr, b.ids.at, b.types.at, b.lengths.at, 1, b.start.at, b.end.at), "no session was run");
}

// Each session runs every batch on its own thread, concurrently with the others.
struct Runner {
  Session* session;
  Batch* const* batches;
  Array<float>* logits;
  int batches_count;
  bool ran;
};

void* run_all(void* given) {
  Runner& r = *static_cast<Runner*>(given);
  int64_t at = 0;
  r.ran = true;
  for (int i = 0; i < r.batches_count; i++) {
    const Batch& b = *r.batches[i];
    float *start = r.logits->at + at, *end = start + b.ids.size();
    r.ran = r.ran && session_run(r.session, b.ids.at, b.types.at, b.lengths.at, b.lengths.size(), start, end);
    at += 2 * b.ids.size();
  }
  return nullptr;
}

void run_sessions(Encoder* e, const Shape& shape, Numbers numbers) {
  constexpr int kBatches = 2, kSessions = 3;
  Batch* batches[kBatches];
  int64_t floats = 0;
  for (Batch*& each : batches) floats += 2 * (each = random_batch(shape))->ids.size();
  Runner runners[kSessions];
  pthread_t threads[kSessions];
  int64_t sessions = between_random(1, kSessions);
  for (int64_t i = 0; i < sessions; i++) {
    Session* session = session_new(e, between_random(1, 6));
    require(session, "a session was refused");
    runners[i] = Runner{session, batches, new Array<float>(floats), kBatches, false};
    require(!pthread_create(&threads[i], nullptr, run_all, &runners[i]), "no thread");
  }
  for (int64_t i = 0; i < sessions; i++) {
    pthread_join(threads[i], nullptr);
    require(runners[i].ran, "a batch was refused");
    bool same = !memcmp(runners[0].logits->at, runners[i].logits->at, floats * sizeof(float));
    require(same || numbers == kNotNumbers, "two sessions gave different logits");
  }
  refuse_bad_batches(runners[0].session, shape, *batches[0]);
  for (int64_t i = 0; i < sessions; i++) {
    session_free(runners[i].session);
    delete runners[i].logits;
  }
  for (Batch* each : batches) delete each;
}

void refuse_bad_shapes(const Shape& good) {
  const int64_t bad[] = {INT64_MIN, INT64_MIN / 2, -1, 0, int64_t(1) << 31, int64_t(1) << 62, INT64_MAX};
  int64_t Shape::*const sizes[] = {&Shape::layers, &Shape::hidden,    &Shape::heads, &Shape::intermediate,
                                   &Shape::words,  &Shape::positions, &Shape::types};
  for (int64_t Shape::*each : sizes)
    for (int64_t value : bad) {
      Shape shape = good;
      shape.*each = value;
      require(!encoder_new(&shape), "a size out of range was accepted");
    }
  const double epsilons[] = {0.0, -1e-12, 1e-60, 2.0, __builtin_inf(), -__builtin_inf(), __builtin_nan("")};
  for (double epsilon : epsilons) {
    Shape shape = good;
    shape.epsilon = epsilon;
    require(!encoder_new(&shape), "a wrong epsilon was accepted");
  }
  struct {
    int64_t hidden, heads, intermediate;
  } const odd[] = {{63, 1, 32}, {64, 3, 32}, {16, 1, 32}, {48, 1, 32}, {160, 1, 32}, {64, 64, 32}, {64, 2, 33}, {64, 2, 16}};
  for (const auto& each : odd) {
    Shape shape = good;
    shape.hidden = each.hidden, shape.heads = each.heads, shape.intermediate = each.intermediate;
    require(!encoder_new(&shape), "a shape that the kernels cannot run was accepted");
  }
  require(!encoder_new(nullptr), "no shape was accepted");
  Shape large = good;
  large.hidden = 65536, large.heads = 512, large.words = 1 << 24;
  encoder_free(encoder_new(&large));  // a terabyte: may fail, but must not crash
}

void round_of(uint64_t number) {
  Shape shape = random_shape();
  Numbers numbers = number % 3 ? kOrdinary : Numbers(next() % kKinds);
  Encoder* encoder = encoder_new(&shape);
  require(encoder, "a shape was refused");
  weigh(encoder, shape, numbers);
  run_sessions(encoder, shape, numbers);
  const int64_t wrong[] = {INT64_MIN, -1, 0, 1025, INT64_MAX};
  for (int64_t threads : wrong)
    require(!session_new(encoder, threads), "a wrong number of threads was accepted");
  require(!session_new(nullptr, 1), "a session of no encoder was made");
  refuse_bad_shapes(shape);
  encoder_free(encoder);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    fprintf(stderr, "usage: driver SEED SECONDS\n");
    return 2;
  }
  state = strtoull(arguments[1], nullptr, 10) * 0x9E3779B97F4A7C15ull + 1;
  time_t until = time(nullptr) + strtol(arguments[2], nullptr, 10);
  encoder_free(nullptr);
  session_free(nullptr);
  uint64_t rounds = 0;
  do round_of(rounds++);
  while (time(nullptr) < until);
  printf("%llu rounds\n", static_cast<unsigned long long>(rounds));
  return 0;
}
