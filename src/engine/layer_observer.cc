#include "engine/layer_observer.h"

#include <algorithm>

#include "base/threads.h"
#include "model/weights.h"
#include "restkv/attention.h"

namespace restkv {

LayerObserver::LayerObserver(const Model& model, std::span<const CacheRequest> requests, size_t n,
                             RopeTable& rope)
    : model_(model), requests_(requests), rope_(rope), n_(n) {
  const ModelConfig& c = model.config();
  for (size_t i = 0; i < requests.size(); ++i) {
    const CompressionOptions& options = requests[i].options;
    // A prompt within the budget is kept whole: nobody looks at it.
    if (n <= static_cast<size_t>(std::max(options.budget, 0))) continue;
    observed_ = std::max(observed_, std::min(n, observed_queries(options)));
    if (needs_attention_sums(options)) sums_.resize(c.query_heads * n);
    if (needs_query_statistics(options)) {
      const auto future = static_cast<size_t>(options.future);
      rope.grow(n + future);
      moments_.push_back({i, static_cast<size_t>(options.sinks), {}, rope.mean(n, future)});
    }
  }
  queries_.resize(c.query_heads * observed_ * c.key_dim);
}

void LayerObserver::begin_layer() {
  std::fill(sums_.begin(), sums_.end(), 0.0F);
  const ModelConfig& c = model_.config();
  for (Moments& m : moments_) m.statistics = QueryStatistics(c.query_heads, c.key_dim);
}

Matrix<float> LayerObserver::log_sums(size_t rows) {
  if (sums_.empty()) return {};
  log_sums_.resize(model_.config().query_heads * rows);
  return {log_sums_.data(), model_.config().query_heads, rows};
}

void LayerObserver::add(Heads<const float> queries, Heads<const float> keys, size_t first) {
  const ModelConfig& c = model_.config();
  const size_t end = first + queries.rows;
  if (end + observed_ > n_) {
    const Heads<float> window(queries_.data(), c.query_heads, observed_, c.key_dim);
    const size_t begin = n_ - observed_;  // position of the window's first row
    parallel_for(queries.heads, [&](size_t h, size_t) {
      for (size_t p = std::max(first, begin); p < end; ++p) {
        std::copy_n(queries.row(h, p - first), queries.dim, window.row(h, p - begin));
      }
    });
  }
  if (!sums_.empty()) {
    attention_sums(queries, keys, first,
                   {.scale = c.attention_scale, .softcap = c.attention_softcap},
                   log_sums(queries.rows), {sums_.data(), c.query_heads, n_});
  }
  if (!moments_.empty()) add_moments(queries, first);
}

void LayerObserver::add_moments(Heads<const float> queries, size_t first) {
  unrotated_.resize(queries.heads * queries.rows * queries.dim);
  const Heads<float> rows(unrotated_.data(), queries.heads, queries.rows, queries.dim);
  parallel_for(queries.heads, [&](size_t h, size_t) {
    for (size_t r = 0; r < queries.rows; ++r) {
      std::copy_n(queries.row(h, r), queries.dim, rows.row(h, r));
    }
  });
  rope_.rotate_back(rows, first);
  for (Moments& m : moments_) {
    const size_t skip = std::min(rows.rows, m.skipped - std::min(m.skipped, first));
    m.statistics.add(rows.slice_rows(skip, rows.rows - skip));
  }
}

LayerObservation LayerObserver::observation(size_t i, size_t layer) {
  const ModelConfig& c = model_.config();
  const CompressionOptions& options = requests_[i].options;
  LayerObservation result;
  result.queries = {queries_.data(), c.query_heads, observed_, c.key_dim};
  result.scale = c.attention_scale;
  result.softcap = c.attention_softcap;
  // Allocations share a budget among the layers that have one.
  result.layer = static_cast<size_t>(
      std::count(c.windows.begin(), c.windows.begin() + static_cast<std::ptrdiff_t>(layer), 0UL));
  result.layers = c.global_layers();
  if (!sums_.empty()) result.attention_sums = {sums_.data(), c.query_heads, n_};
  for (const Moments& m : moments_) {
    if (m.request != i) continue;
    result.query_statistics = &m.statistics;
    result.future_rotation = &m.rotation;
  }
  // No need to factorise W_O for a prompt that is kept whole.
  if (n_ <= static_cast<size_t>(std::max(options.budget, 0))) return result;
  if (needs_output_factor(options)) result.output = &model_.output_factor(layer);
  if (needs_output_weights(options)) {
    result.output_weights = model_.weights().layers[layer].output.densify(output_weights_);
  }
  return result;
}

}  // namespace restkv
