#include "restkv/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/stopwatch.h"
#include "engine/checks.h"
#include "engine/decode.h"
#include "engine/engine_impl.h"
#include "engine/evict.h"
#include "engine/layer_cuts.h"
#include "engine/prefill.h"
#include "restkv/aligned.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Compresses every layer into the caches of all requests.
class RequestSink : public LayerSink {
 public:
  RequestSink(const Model& model, std::span<CacheRequest> requests, size_t tokens,
              const std::optional<RepeatPrompt>& repeat)
      : model_(model), requests_(requests), tokens_(tokens), repeat_(repeat) {
    const ModelConfig& c = model.config();
    cuts_.reserve(requests.size());
    refits_.reserve(requests.size());
    for (CacheRequest& request : requests) {
      validate(request.options, c.cache_shape());
      require_separate_heads(model, request.options);
      require_repeat_prompt(request.options, repeat);
      require_same_pass(request.options);
      cuts_.emplace_back(request.options);
      refits_.emplace_back(request.options, cuts_.back().come_again());
      request.cache = KvCache(c.layers, c.kv_heads, c.key_dim, c.value_dim, request.kv_type);
      request.compress_seconds = 0;
      request.selections.clear();
    }
  }

  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    std::vector<const CompressionOptions*> options;
    for (const CacheRequest& request : requests_) options.push_back(&request.options);
    return options;
  }

  [[nodiscard]] std::vector<RepeatFeed> feeds(std::span<const int32_t> tokens) const override {
    return repeat_feeds(tokens, repeat_pass_, *repeat_);
  }

  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    const size_t window = model_.config().windows[layer];
    for (size_t i = 0; i < requests_.size(); ++i) {
      CacheRequest& request = requests_[i];
      const Stopwatch watch;
      if (window > 0) {
        keep_window(request, layer, kv, window);
        request.compress_seconds += watch.seconds();
        continue;
      }
      const LayerObservation observation = observe(i, layer, kv, observer);
      Selection selection = choose(i, layer, observation);
      request.cache.gather(layer, kv.keys(),
                           request.options.merge ? merged(kv, selection, request) : kv.values(),
                           selection, {}, cuts_[i].come_again() || refits_[i].needed());
      if (refits_[i].needed()) {
        refits_[i].take(request.cache, layer, selection.keep.size(), kv, {&observation, 1},
                        tokens_);
      }
      if (request.keep_selections) request.selections.push_back(std::move(selection));
      request.compress_seconds += watch.seconds();
    }
  }

  void finish() override {
    for (size_t i = 0; i < requests_.size(); ++i) {
      CacheRequest& request = requests_[i];
      request.cache.next_position = tokens_;
      const Stopwatch watch;
      refits_[i].finish(request.cache);
      request.compress_seconds += watch.seconds();
      for (size_t layer = 0; layer < request.cache.layers(); ++layer) request.cache.close(layer);
    }
  }

 private:
  /// One pass serves all requests.
  void require_same_pass(const CompressionOptions& options) {
    const RepeatPass pass = repeat_pass(options);
    if (pass.chunk == 0 || pass == repeat_pass_) return;
    if (repeat_pass_.chunk == 0) {
      repeat_pass_ = pass;
      return;
    }
    if (pass.narrow != repeat_pass_.narrow) {
      throw Error(ErrorCode::kInvalidArgument,
                  "requests of one prompt differ in what repeated tokens see; give them the same "
                  "repeat_sees");
    }
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("requests of one prompt repeat {} and {} tokens at a time; give them "
                            "the same repeat_chunk",
                            repeat_pass_.chunk, pass.chunk));
  }

  static void keep_window(CacheRequest& request, size_t layer, LayerKv& kv, size_t window) {
    Selection selection = last_rows(kv.heads(), kv.rows(), window);
    request.cache.gather(layer, kv.keys(), kv.values(), selection);
    request.cache.limit(layer, window);
    if (request.keep_selections) request.selections.push_back(std::move(selection));
  }

  LayerObservation observe(size_t i, size_t layer, LayerKv& kv, LayerObserver& observer) {
    LayerObservation observation = observer.observation(i, layer);
    observation.keys = kv.keys();
    observation.values = kv.values();
    observation.unrotated_keys = observer.unrotated_keys(i, layer, kv);
    observation.precision = model_.attention_precision();
    return observation;
  }

  Selection choose(size_t i, size_t layer, const LayerObservation& observation) {
    CacheRequest& request = requests_[i];
    if (!cuts_[i].come_again() || keeps_whole(request.options, tokens_)) {
      return select_tokens(observation, request.options);
    }
    return cuts_[i].choose(layer, {&observation, 1}, [&](size_t earlier, const Selection& rows) {
      request.cache.keep(earlier, rows);
      if (!request.keep_selections) return;
      Selection& kept = request.selections[earlier];
      for (size_t h = 0; h < kept.keep.size(); ++h) {
        std::vector<int32_t> left;
        for (const int32_t row : rows.keep[h]) {
          left.push_back(kept.keep[h][static_cast<size_t>(row)]);
        }
        kept.keep[h] = std::move(left);
      }
    });
  }

  /// Values for the cache of one request; the others read those of `kv`.
  Heads<const float> merged(LayerKv& kv, const Selection& selection, const CacheRequest& request) {
    const Heads<float> values = kv.values();
    merged_.assign(values.data, values.data + values.heads * values.rows * values.dim);
    const Heads<float> copy(merged_.data(), values.heads, values.rows, values.dim);
    merge_evicted(kv.keys(), copy, selection, request.options);
    return copy;
  }

  const Model& model_;
  std::span<CacheRequest> requests_;
  AlignedVector<float> merged_;
  size_t tokens_;
  const std::optional<RepeatPrompt>& repeat_;
  RepeatPass repeat_pass_;           ///< Of the requests that need one.
  std::vector<LayerCuts> cuts_;      ///< One per request.
  std::vector<LayerRefits> refits_;  ///< One per request.
};

/// Keeps all tokens behind those of a cache.
class WholeSink : public LayerSink {
 public:
  WholeSink(const ModelConfig& config, KvCache& cache, size_t tokens)
      : config_(config), cache_(cache), tokens_(tokens) {}

  [[nodiscard]] const KvCache* cache() const override { return &cache_; }
  void take(size_t layer, LayerKv& kv, LayerObserver&) override {
    keep_whole_layer(config_, cache_, layer, kv);
  }
  void finish() override { cache_.next_position += tokens_; }

 private:
  const ModelConfig& config_;
  KvCache& cache_;
  size_t tokens_;
};

}  // namespace

Engine::Engine(const Model& model, std::shared_ptr<ThreadPool> threads)
    : impl_(std::make_shared<Impl>(model, std::move(threads))) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const Model& Engine::model() const { return impl_->model; }

void Engine::set_sparse(const SparseOptions& options) {
  refuse_sparse_if_shared(impl_->model, options);
  impl_->sparse.set(options);
}

const SparseReport& Engine::sparse_report() const { return impl_->sparse.report(); }

std::vector<float> Engine::prefill(std::span<const int32_t> tokens,
                                   std::span<CacheRequest> requests,
                                   const ProgressCallback& progress,
                                   const std::optional<RepeatPrompt>& repeat) {
  const Impl::Lease workspace(*impl_);
  RequestSink sink(impl_->model, requests, tokens.size(), repeat);
  Prefill prefill(impl_->model, *workspace, tokens, sink, impl_->sparse);
  prefill.run(progress);
  std::vector<float> logits;
  prefill.last_logits(logits);
  return logits;
}

std::vector<float> Engine::extend(std::span<const int32_t> tokens, KvCache& cache,
                                  const ProgressCallback& progress) {
  KvCache* const caches[] = {&cache};
  check_caches(impl_->model.config(), caches);
  const Impl::Lease workspace(*impl_);
  WholeSink sink(impl_->model.config(), cache, tokens.size());
  Prefill prefill(impl_->model, *workspace, tokens, sink, impl_->sparse);
  prefill.run(progress);
  std::vector<float> logits;
  prefill.last_logits(logits);
  return logits;
}

void Engine::score(std::span<const int32_t> tokens,
                   const std::function<void(size_t, Matrix<const float>)>& sink,
                   const ProgressCallback& progress) {
  const Impl::Lease workspace(*impl_);
  LayerSink nowhere;
  Prefill prefill(impl_->model, *workspace, tokens, nowhere, impl_->sparse, tokens.size());
  prefill.run(progress);
  const ModelConfig& c = impl_->model.config();
  constexpr size_t kRows = Session::kLogitsRows;
  AlignedVector<float> logits(std::min(kRows, tokens.size()) * c.vocabulary);
  for (size_t first = 0; first < tokens.size(); first += kRows) {
    const size_t rows = std::min(kRows, tokens.size() - first);
    const Matrix<float> block(logits.data(), rows, c.vocabulary);
    prefill.logits(first, block);
    sink(first, block);
  }
}

std::span<const float> Engine::decode(int32_t token, KvCache& cache) {
  KvCache* const caches[] = {&cache};
  check_caches(impl_->model.config(), caches);
  const Impl::Lease workspace(*impl_);
  return restkv::decode(impl_->model, *workspace, token, cache);
}

Matrix<const float> Engine::decode(std::span<const int32_t> tokens,
                                   std::span<KvCache* const> caches) {
  check_caches(impl_->model.config(), caches);
  const Impl::Lease workspace(*impl_);
  return restkv::decode(impl_->model, *workspace, tokens, caches);
}

}  // namespace restkv
