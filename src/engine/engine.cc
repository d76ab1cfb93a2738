#include "restkv/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "engine/layer_observer.h"
#include "model/forward.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Prompt tokens that go through a layer together: enough rows for the matrix products to run at
/// full speed, few enough for the activations to stay near the cache.
constexpr size_t kBlockTokens = 512;

/// Full keys and values of the layer that is being computed.
struct LayerKv {
  AlignedVector<float> keys, values;
};

/// Copies rows of `from` to rows [first, first + from.rows) of `to`.
void store_rows(Heads<const float> from, Heads<float> to, size_t first) {
  parallel_for(from.heads, [&](size_t h, size_t) {
    for (size_t r = 0; r < from.rows; ++r) {
      std::copy_n(from.row(h, r), from.dim, to.row(h, first + r));
    }
  });
}

AttentionOptions attention_options(const ModelConfig& c, size_t layer) {
  return {.scale = c.attention_scale,
          .softcap = c.attention_softcap,
          .sliding_window = c.windows[layer]};
}

/// The last `count` of n positions, for every head.
Selection last_positions(size_t heads, size_t n, size_t count) {
  std::vector<int32_t> positions(std::min(n, count));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(n - positions.size()));
  return {std::vector<std::vector<int32_t>>(heads, positions)};
}

void require_finite(std::span<const float> logits) {
  for (const float v : logits) {
    if (!std::isfinite(v)) {
      throw Error(ErrorCode::kInput,
                  "the model computed NaN or infinite logits; its file is probably damaged");
    }
  }
}

}  // namespace

struct Engine::State {
  explicit State(const Model& model)
      : rope(model.config().rope, model.weights().rope_factors, model.weights().architecture->rope),
        window_rope(model.config().window_rope,
                    model.weights().architecture->window_rope_base > 0
                        ? std::span<const float>()
                        : model.weights().rope_factors,
                    model.weights().architecture->rope) {}

  /// For positions [0, end).
  void grow_rope(const ModelConfig& c, size_t end) {
    if (c.global_layers() > 0) rope.grow(end);
    if (c.global_layers() < c.layers) window_rope.grow(end);
  }

  [[nodiscard]] const RopeTable& rope_of(size_t window) const {
    return window > 0 ? window_rope : rope;
  }

  RopeTable rope;
  RopeTable window_rope;  // of layers with a sliding window
  Activations scratch;
  DenseLayer dense;
  LayerKv kv;
  AlignedVector<float> hidden;  // [n, C]
  std::vector<float> logits;
};

Engine::Engine(const Model& model) : model_(model), state_(std::make_unique<State>(model)) {}
Engine::~Engine() = default;

void Engine::run_prompt(std::span<const int32_t> tokens, std::span<CacheRequest> requests,
                        size_t wanted_rows, const ProgressCallback& progress) {
  using Clock = std::chrono::steady_clock;
  const ModelConfig& c = model_.config();
  const size_t n = tokens.size();
  if (n == 0) throw Error(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  if (n > c.context_length) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the prompt has {} tokens, but the model's context holds {}; shorten "
                            "the prompt or use a model with a longer context",
                            n, c.context_length));
  }
  for (CacheRequest& request : requests) {
    validate(request.options);
    request.cache = KvCache(c.layers, c.kv_heads, c.key_dim, c.value_dim, request.kv_type);
    request.cache.next_position = n;
    request.compress_seconds = 0;
    request.selections.clear();
  }

  State& s = *state_;
  s.grow_rope(c, n);
  s.hidden.resize(n * c.width);
  s.kv.keys.resize(c.kv_heads * n * c.key_dim);
  s.kv.values.resize(c.kv_heads * n * c.value_dim);
  const Matrix<float> hidden(s.hidden.data(), n, c.width);
  const Heads<float> keys(s.kv.keys.data(), c.kv_heads, n, c.key_dim);
  const Heads<float> values(s.kv.values.data(), c.kv_heads, n, c.value_dim);
  LayerObserver observer(model_, requests, n, s.rope);

  embed(model_, tokens, hidden);
  const bool convert = n >= kDenseFromRows;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (convert) s.dense.make(model_.weights().layers[layer]);
    const size_t window = c.windows[layer];
    const bool observed = window == 0;
    if (observed) observer.begin_layer();
    // The last layer's outputs matter only where logits are wanted.
    const bool all_rows = layer + 1 < c.layers || (observed && observer.needs_all_rows());
    const size_t outputs = all_rows ? n : wanted_rows;
    for (size_t first = 0; first < n; first += kBlockTokens) {
      const size_t end = std::min(n, first + kBlockTokens);
      const size_t wanted = std::min(end - first, end + outputs > n ? end + outputs - n : 0);
      run_layer(
          model_, layer, convert ? &s.dense : nullptr, s.rope_of(window), first, wanted,
          hidden.slice(first, end - first), s.scratch,
          [&](Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> out) {
            store_rows(k, keys, first);
            store_rows(v, values, first);
            const size_t skipped = q.rows - out.rows;
            prefill_attention(q.slice_rows(skipped, out.rows), keys, values, first + skipped,
                              attention_options(c, layer), out,
                              observed ? observer.log_sums(out.rows) : Matrix<float>());
            if (observed) observer.add(q, keys, first);
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
      Selection selection;
      if (window == 0) {
        LayerObservation observation = observer.observation(i, layer);
        observation.keys = keys;
        observation.values = values;
        selection = select_tokens(observation, request.options);
      } else {
        selection = last_positions(c.kv_heads, n, window);
      }
      request.cache.gather(layer, keys, values, selection);
      if (window > 0) request.cache.limit(layer, window);
      if (request.keep_selections) request.selections.push_back(std::move(selection));
      request.compress_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    }
  }
}

std::vector<float> Engine::prefill(std::span<const int32_t> tokens,
                                   std::span<CacheRequest> requests,
                                   const ProgressCallback& progress) {
  run_prompt(tokens, requests, 1, progress);
  const ModelConfig& c = model_.config();
  std::vector<float> logits(c.vocabulary);
  unembed(model_, {state_->hidden.data() + (tokens.size() - 1) * c.width, 1, c.width},
          {logits.data(), 1, c.vocabulary});
  require_finite(logits);
  // A prompt's working memory is large and rarely needed again soon.
  state_->hidden = {};
  state_->kv = {};
  return logits;
}

void Engine::score(std::span<const int32_t> tokens,
                   const std::function<void(size_t, Matrix<const float>)>& sink,
                   const ProgressCallback& progress) {
  run_prompt(tokens, {}, tokens.size(), progress);
  const ModelConfig& c = model_.config();
  constexpr size_t kRows = 128;
  AlignedVector<float> logits(std::min(kRows, tokens.size()) * c.vocabulary);
  const Matrix<const float> hidden(state_->hidden.data(), tokens.size(), c.width);
  for (size_t first = 0; first < tokens.size(); first += kRows) {
    const size_t rows = std::min(kRows, tokens.size() - first);
    const Matrix<float> block(logits.data(), rows, c.vocabulary);
    unembed(model_, hidden.slice(first, rows), block);
    require_finite({logits.data(), rows * c.vocabulary});
    sink(first, block);
  }
  state_->hidden = {};
  state_->kv = {};
}

std::span<const float> Engine::decode(int32_t token, KvCache& cache) {
  const ModelConfig& c = model_.config();
  State& s = *state_;
  const size_t position = cache.next_position;
  if (position >= c.context_length) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("position {} is beyond the model's context of {} tokens", position,
                            c.context_length));
  }
  s.grow_rope(c, position + 1);
  AlignedVector<float> hidden(c.width);
  const Matrix<float> x(hidden.data(), 1, c.width);
  embed(model_, {&token, 1}, x);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    run_layer(
        model_, layer, nullptr, s.rope_of(c.windows[layer]), position, 1, x, s.scratch,
        [&](Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> out) {
          cache.append(layer, {k.data, k.heads, k.dim, k.head_stride},
                       {v.data, v.heads, v.dim, v.head_stride}, static_cast<int32_t>(position));
          // A layer with a sliding window holds nothing else: no further mask is needed.
          decode_attention({q.data, q.heads, q.dim, q.head_stride}, cache.heads(layer),
                           {.scale = c.attention_scale, .softcap = c.attention_softcap},
                           {out.data, out.heads, out.dim, out.head_stride});
        });
  }
  cache.next_position = position + 1;
  s.logits.resize(c.vocabulary);
  unembed(model_, x, {s.logits.data(), 1, c.vocabulary});
  require_finite(s.logits);
  return s.logits;
}

}  // namespace restkv
