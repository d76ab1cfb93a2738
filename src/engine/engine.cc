#include "restkv/engine.h"

#include <algorithm>

#include "base/stopwatch.h"
#include "engine/checks.h"
#include "engine/decode.h"
#include "engine/engine_impl.h"
#include "engine/evict.h"
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
  RequestSink(const Model& model, std::span<CacheRequest> requests, size_t tokens)
      : model_(model), requests_(requests), tokens_(tokens) {
    const ModelConfig& c = model.config();
    for (CacheRequest& request : requests) {
      validate(request.options, c.cache_shape());
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

  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    const size_t window = model_.config().windows[layer];
    for (size_t i = 0; i < requests_.size(); ++i) {
      CacheRequest& request = requests_[i];
      const Stopwatch watch;
      Selection selection =
          window > 0 ? last_rows(kv.heads(), kv.rows(), window) : choose(i, layer, kv, observer);
      const bool merges = window == 0 && request.options.merge;
      request.cache.gather(layer, kv.keys(), merges ? merged(kv, selection, request) : kv.values(),
                           selection);
      if (window > 0) request.cache.limit(layer, window);
      if (request.keep_selections) request.selections.push_back(std::move(selection));
      request.compress_seconds += watch.seconds();
    }
  }

  void finish() override {
    for (CacheRequest& request : requests_) request.cache.next_position = tokens_;
  }

 private:
  Selection choose(size_t i, size_t layer, LayerKv& kv, LayerObserver& observer) const {
    LayerObservation observation = observer.observation(i, layer);
    observation.keys = kv.keys();
    observation.values = kv.values();
    observation.unrotated_keys = observer.unrotated_keys(i, kv);
    observation.precision = model_.attention_precision();
    return select_tokens(observation, requests_[i].options);
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

void Engine::set_sparse(const SparseOptions& options) { impl_->sparse.set(options); }

const SparseReport& Engine::sparse_report() const { return impl_->sparse.report(); }

std::vector<float> Engine::prefill(std::span<const int32_t> tokens,
                                   std::span<CacheRequest> requests,
                                   const ProgressCallback& progress) {
  const Impl::Lease workspace(*impl_);
  RequestSink sink(impl_->model, requests, tokens.size());
  Prefill prefill(impl_->model, *workspace, tokens, sink, impl_->sparse);
  prefill.run(progress);
  std::vector<float> logits;
  prefill.last_logits(logits);
  return logits;
}

std::vector<float> Engine::extend(std::span<const int32_t> tokens, KvCache& cache,
                                  const ProgressCallback& progress) {
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
  const Impl::Lease workspace(*impl_);
  return restkv::decode(impl_->model, *workspace, token, cache);
}

Matrix<const float> Engine::decode(std::span<const int32_t> tokens,
                                   std::span<KvCache* const> caches) {
  const Impl::Lease workspace(*impl_);
  return restkv::decode(impl_->model, *workspace, tokens, caches);
}

}  // namespace restkv
