#include "restkv/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "engine/engine_state.h"
#include "engine/layer_observer.h"
#include "engine/stream.h"
#include "model/forward.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Prompt tokens that go through a layer together: enough rows for the matrix products to run at
/// full speed, few enough for the activations to stay near the cache.
constexpr size_t kBlockTokens = 512;

/// The product that is fastest for one token.
constexpr auto kDecoding = StoredProduct::kRounded;
/// And for several; even if there is only one, so that its logits do not depend on the others.
constexpr auto kDecodingTogether = StoredProduct::kUnpacked;
static_assert(Engine::kMostTogether < kDenseFromRows);

AttentionOptions attention_options(const Model& model, size_t layer) {
  const ModelConfig& c = model.config();
  return {.scale = c.attention_scale,
          .softcap = c.attention_softcap,
          .sliding_window = c.windows[layer],
          .precision = model.attention_precision()};
}

void check_length(const ModelConfig& c, size_t position, size_t n) {
  if (n == 0) throw Error(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  if (position <= c.context_length && n <= c.context_length - position) return;
  throw Error(ErrorCode::kInvalidArgument,
              position == 0
                  ? fmt::format("the prompt has {} tokens, but the model's context holds {}; "
                                "shorten the prompt, or use a model with a longer context",
                                n, c.context_length)
                  : fmt::format("{} more tokens from position {} on pass the model's context of "
                                "{}; use a model with a longer context",
                                n, position, c.context_length));
}

/// Position of the next token in a layer. Layers with a sliding window always hold the last token
/// and count on from it: compact positions are for the others.
size_t next_position(const ModelConfig& c, const KvCache& cache, size_t layer) {
  if (c.windows[layer] == 0 || cache.heads(layer).empty()) return cache.next_position;
  const std::span<const int32_t> positions = cache.positions(layer, 0);
  return positions.empty() ? cache.next_position : static_cast<size_t>(positions.back()) + 1;
}

void require_finite(const Model& model, std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("{}: the model computed NaN or infinite logits ({} for token {}); its "
                      "file is probably damaged",
                      model.path(), logits[i], i % model.config().vocabulary));
    }
  }
}

}  // namespace

Selection last_rows(size_t heads, size_t n, size_t count) {
  std::vector<int32_t> rows(std::min(n, count));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(n - rows.size()));
  return {std::vector<std::vector<int32_t>>(heads, rows)};
}

Engine::Engine(const Model& model) : model_(model), state_(std::make_unique<State>(model)) {}
Engine::~Engine() = default;

void Engine::run_prompt(std::span<const int32_t> tokens, std::span<CacheRequest> requests,
                        CacheStream* stream, size_t wanted_rows, const ProgressCallback& progress) {
  using Clock = std::chrono::steady_clock;
  const ModelConfig& c = model_.config();
  const size_t n = tokens.size();
  const size_t position = stream != nullptr ? stream->request.cache.next_position : 0;
  check_length(c, position, n);
  if (stream != nullptr) renumber_windows(*stream, n);
  State& s = *state_;
  s.hidden.resize(n * c.width);
  std::vector<size_t> positions = consecutive(position, n);
  const Matrix<float> hidden(s.hidden.data(), n, c.width);
  LayerObserver observer(model_, requests, n, s.rope_of(0), position, stream != nullptr);

  embed(model_, tokens, hidden);
  const bool convert = n >= model_.weights().dense_from_rows;
  const auto stored = model_.weights().linear == LinearPrecision::kInt8
                          ? StoredProduct::kFastestRounded
                          : StoredProduct::kFastest;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (convert) s.dense.make(model_.weights().layers[layer], model_.weights().linear);
    const size_t window = c.windows[layer];
    const bool observed = window == 0;
    const KvCache* before = stream != nullptr ? &stream->request.cache : nullptr;
    const size_t begin = before != nullptr ? next_position(c, *before, layer) : 0;
    if (positions.front() != begin) positions = consecutive(begin, n);
    RopeTable& rope = s.rope_of(window);
    rope.grow(begin + n);
    s.kv.begin(c, before, layer, n, begin);
    if (observed) {
      observer.begin_layer(s.kv.rows(), s.kv.prefix(),
                           stream != nullptr ? &stream->layers[layer] : nullptr);
    }
    // The last layer's outputs matter only where logits are wanted.
    const bool all_rows = layer + 1 < c.layers || (observed && observer.needs_all_rows());
    const size_t outputs = all_rows ? n : wanted_rows;
    const bool sparse = observed && convert && outputs == n &&
                        s.sparse.begin_layer(layer, attention_options(model_, layer), n,
                                             observer.observed_rows(), s.kv);
    if (sparse && s.sparse.looks_ahead()) look_ahead(layer, positions, hidden);
    for (size_t first = 0; first < n; first += kBlockTokens) {
      const size_t end = std::min(n, first + kBlockTokens);
      const size_t wanted = std::min(end - first, end + outputs > n ? end + outputs - n : 0);
      run_layer(
          model_, layer, convert ? &s.dense : nullptr, stored, rope,
          std::span(positions).subspan(first, end - first), wanted,
          hidden.slice(first, end - first), s.scratch,
          [&](Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> out) {
            s.kv.store(k, v, first);
            const size_t skipped = q.rows - out.rows;
            Matrix<float> log_sums = observed ? observer.log_sums(out.rows, end) : Matrix<float>();
            if (sparse) log_sums = s.sparse.begin_block(q, s.kv, first, log_sums);
            s.kv.attend(q.slice_rows(skipped, out.rows), first + skipped,
                        attention_options(model_, layer), out, log_sums);
            if (sparse) s.sparse.end_block(q, s.kv, first, log_sums);
            if (observed) observer.add(q, out, s.kv, first);
          });
      const double done =
          static_cast<double>(layer) + static_cast<double>(end) / static_cast<double>(n);
      if (progress && !progress(done / static_cast<double>(c.layers))) {
        throw Error(ErrorCode::kInterrupted, "interrupted while reading the prompt");
      }
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      CacheRequest& request = requests[i];
      const auto start = Clock::now();
      naming_the_file(model_, [&] {
        if (stream != nullptr) {
          keep_in_stream(*stream, layer, n, observer);
          return;
        }
        Selection selection = observed ? select_tokens(observe(observer, i, layer), request.options)
                                       : last_rows(s.kv.heads(), n, window);
        request.cache.gather(layer, s.kv.keys(), s.kv.values(), selection);
        if (!observed) request.cache.limit(layer, window);
        if (request.keep_selections) request.selections.push_back(std::move(selection));
      });
      request.compress_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    }
  }
  if (stream != nullptr) {
    finish_stream(*stream, n);
  } else {
    for (CacheRequest& request : requests) request.cache.next_position = n;
  }
}

void Engine::look_ahead(size_t layer, std::span<const size_t> positions,
                        Matrix<const float> hidden) {
  State& s = *state_;
  RopeTable& rope = s.rope_of(model_.config().windows[layer]);
  for (size_t first = 0; first < hidden.rows; first += kBlockTokens) {
    const size_t rows = std::min(kBlockTokens, hidden.rows - first);
    s.kv.store_keys(layer_keys(model_, layer, s.dense, rope, positions.subspan(first, rows),
                               hidden.slice(first, rows), s.scratch),
                    first);
  }
  const size_t rows = std::min(kMaskTile, hidden.rows);
  const size_t first = hidden.rows - rows;
  s.sparse.look_ahead(layer_queries(model_, layer, s.dense, rope, positions.subspan(first, rows),
                                    hidden.slice(first, rows), s.scratch),
                      s.kv);
}

void Engine::set_sparse(const SparseOptions& options) { state_->sparse.set(options); }

const SparseReport& Engine::sparse_report() const { return state_->sparse.report(); }

LayerObservation Engine::observe(LayerObserver& observer, size_t request, size_t layer) {
  LayerObservation observation = observer.observation(request, layer);
  observation.keys = state_->kv.keys();
  observation.values = state_->kv.values();
  observation.precision = model_.attention_precision();
  return observation;
}

std::vector<float> Engine::prefill(std::span<const int32_t> tokens,
                                   std::span<CacheRequest> requests,
                                   const ProgressCallback& progress) {
  const ModelConfig& c = model_.config();
  for (CacheRequest& request : requests) {
    validate(request.options, c.cache_shape());
    request.cache = KvCache(c.layers, c.kv_heads, c.key_dim, c.value_dim, request.kv_type);
    request.compress_seconds = 0;
    request.selections.clear();
  }
  run_prompt(tokens, requests, nullptr, 1, progress);
  return last_logits(tokens.size());
}

std::vector<float> Engine::last_logits(size_t tokens) {
  const ModelConfig& c = model_.config();
  std::vector<float> logits(c.vocabulary);
  unembed(model_, {state_->hidden.data() + (tokens - 1) * c.width, 1, c.width}, kDecoding,
          {logits.data(), 1, c.vocabulary}, state_->scratch);
  require_finite(model_, logits);
  // A prompt's working memory is large and rarely needed again soon.
  state_->hidden = {};
  state_->kv.release();
  return logits;
}

void Engine::score(std::span<const int32_t> tokens,
                   const std::function<void(size_t, Matrix<const float>)>& sink,
                   const ProgressCallback& progress) {
  run_prompt(tokens, {}, nullptr, tokens.size(), progress);
  const ModelConfig& c = model_.config();
  constexpr size_t kRows = 128;
  AlignedVector<float> logits(std::min(kRows, tokens.size()) * c.vocabulary);
  const Matrix<const float> hidden(state_->hidden.data(), tokens.size(), c.width);
  for (size_t first = 0; first < tokens.size(); first += kRows) {
    const size_t rows = std::min(kRows, tokens.size() - first);
    const Matrix<float> block(logits.data(), rows, c.vocabulary);
    unembed(model_, hidden.slice(first, rows), StoredProduct::kFastest, block, state_->scratch);
    require_finite(model_, {logits.data(), rows * c.vocabulary});
    sink(first, block);
  }
  state_->hidden = {};
  state_->kv.release();
}

Matrix<const float> Engine::decode_rows(std::span<const int32_t> tokens,
                                        std::span<KvCache* const> caches, StoredProduct product,
                                        TokenObserver* observer) {
  const ModelConfig& c = model_.config();
  State& s = *state_;
  const size_t rows = tokens.size();
  for (const KvCache* cache : caches) check_length(c, cache->next_position, 1);
  std::vector<size_t>& positions = s.positions;
  positions.resize(rows);
  s.decoded.resize(rows * c.width);
  const Matrix<float> x(s.decoded.data(), rows, c.width);
  embed(model_, tokens, x);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    for (size_t r = 0; r < rows; ++r) positions[r] = next_position(c, *caches[r], layer);
    run_layer(
        model_, layer, nullptr, product, s.rope_of(c.windows[layer]), positions, rows, x, s.scratch,
        [&](Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> out) {
          if (observer != nullptr) observer->add_query(layer, q);
          for (size_t r = 0; r < rows; ++r) {
            KvCache& cache = *caches[r];
            naming_the_file(model_, [&] {
              cache.append(layer, across_heads(k, r), across_heads(v, r),
                           static_cast<int32_t>(positions[r]));
            });
            // A layer with a sliding window holds nothing else: no further mask is needed.
            const auto heads = cache.heads(layer);
            const Matrix<float> weights =
                observer != nullptr ? observer->weights(layer, heads) : Matrix<float>();
            decode_attention(across_heads(q, r), heads,
                             {.scale = c.attention_scale, .softcap = c.attention_softcap},
                             across_heads(out, r), weights);
            if (observer != nullptr) observer->add_weights(layer, heads, weights);
          }
        });
  }
  for (KvCache* cache : caches) ++cache->next_position;
  s.logits.resize(rows * c.vocabulary);
  const Matrix<float> logits(s.logits.data(), rows, c.vocabulary);
  unembed(model_, x, product, logits, s.scratch);
  require_finite(model_, s.logits);
  return logits;
}

std::span<const float> Engine::decode(int32_t token, KvCache& cache) {
  KvCache* const caches[] = {&cache};
  return decode_rows({&token, 1}, caches, kDecoding, nullptr).row_span(0);
}

Matrix<const float> Engine::decode(std::span<const int32_t> tokens,
                                   std::span<KvCache* const> caches) {
  if (tokens.empty() || tokens.size() > kMostTogether || caches.size() != tokens.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} tokens for {} caches: 1 to {} can be decoded together, one for "
                            "each cache",
                            tokens.size(), caches.size(), kMostTogether));
  }
  return decode_rows(tokens, caches, kDecodingTogether, nullptr);
}

}  // namespace restkv
