#include "engine/layer_observer.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/threads.h"
#include "model/weights.h"
#include "restkv/attention.h"

namespace restkv {

Heads<float> LayerMemory::make_room(size_t heads, size_t dim, size_t kept, size_t added) {
  kept = std::min(kept, end_ - begin_);
  begin_ = end_ - kept;
  if (heads_ != heads || dim_ != dim || end_ + added > capacity_) {
    // Twice the room: single tokens then move the others only every now and then.
    const size_t capacity = 2 * (kept + added);
    AlignedVector<float> queries(heads * capacity * dim);
    const Heads<float> grown(queries.data(), heads, capacity, dim);
    for (size_t h = 0; h < heads && kept > 0; ++h) {
      std::copy_n(all().row(h, begin_), kept * dim, grown.row(h, 0));
    }
    queries_ = std::move(queries);
    heads_ = heads;
    capacity_ = capacity;
    dim_ = dim;
    begin_ = 0;
    end_ = kept;
  }
  end_ += added;
  return all().slice_rows(end_ - added, added);
}

void LayerMemory::save(ByteWriter& out) const {
  const size_t rows = end_ - begin_;
  out.number<uint64_t>(rows);
  for (size_t h = 0; h < heads_ && rows > 0; ++h) {
    out.array(std::span(queries_).subspan((h * capacity_ + begin_) * dim_, rows * dim_));
  }
  out.array(std::span(sums));
  out.number<uint64_t>(statistics.size());
  for (const QueryStatistics& s : statistics) s.save(out);
}

void LayerMemory::load(ByteReader& in, const ModelConfig& config, size_t rows) {
  const auto queries = in.number<uint64_t>();
  std::vector<AlignedVector<float>> heads(queries > 0 ? config.query_heads : 0);
  for (AlignedVector<float>& head : heads) {
    in.array(head);
    in.expect(head.size() / config.key_dim == queries && head.size() % config.key_dim == 0,
              "the last queries do not fit the model");
  }
  forget_queries();
  if (queries > 0) {
    const Heads<float> room = make_room(config.query_heads, config.key_dim, 0, queries);
    for (size_t h = 0; h < heads.size(); ++h) std::ranges::copy(heads[h], room.row(h, 0));
  }
  in.array(sums);
  in.expect(sums.empty() || sums.size() == config.query_heads * rows,
            "sums of attention do not fit the rows");
  const auto count = in.number<uint64_t>();
  in.expect(count <= 1, "a layer has more than one set of query statistics");
  statistics.assign(count, QueryStatistics(config.query_heads, config.key_dim));
  for (QueryStatistics& s : statistics) s.load(in);
}

LayerObserver::LayerObserver(const Model& model, std::span<const CacheRequest> requests, size_t n,
                             RopeTable& rope, size_t position, bool remember)
    : model_(model),
      requests_(requests),
      rope_(rope),
      n_(n),
      position_(position),
      remember_(remember) {
  for (size_t i = 0; i < requests.size(); ++i) {
    const CompressionOptions& options = requests[i].options;
    // A prompt within the budget is kept whole: nobody looks at it.
    if (!remember && n <= static_cast<size_t>(std::max(options.budget, 0))) continue;
    const size_t observed = observed_queries(options);
    observed_ = std::max(observed_, remember ? observed : std::min(n, observed));
    sums_ = sums_ || needs_attention_sums(options);
    if (needs_query_statistics(options)) {
      const auto future = static_cast<size_t>(options.future);
      rope.grow(position + n + future);
      moments_.push_back({i, static_cast<size_t>(options.sinks), rope.mean(position + n, future)});
    }
  }
}

void LayerObserver::begin_layer(size_t rows, size_t prefix, LayerMemory* memory) {
  const ModelConfig& c = model_.config();
  rows_ = rows;
  prefix_ = prefix;
  memory_ = memory != nullptr ? memory : &own_;
  LayerMemory& m = *memory_;
  if (memory == nullptr) {
    m.forget_queries();
    m.statistics.clear();
  }
  m.statistics.resize(moments_.size(), QueryStatistics(c.query_heads, c.key_dim));
  const size_t added = std::min(observed_, n_);
  queries_ = m.make_room(c.query_heads, c.key_dim, observed_ - added, added);

  if (!sums_) return;
  AlignedVector<float> sums(c.query_heads * rows, 0.0F);
  for (size_t h = 0; h < c.query_heads && memory != nullptr && !m.sums.empty(); ++h) {
    std::copy_n(m.sums.data() + h * prefix, prefix, sums.data() + h * rows);
  }
  m.sums = std::move(sums);
}

Matrix<float> LayerObserver::log_sums(size_t rows) {
  if (!sums_) return {};
  log_sums_.resize(model_.config().query_heads * rows);
  return {log_sums_.data(), model_.config().query_heads, rows};
}

void LayerObserver::add(Heads<const float> queries, LayerKv& kv, size_t first) {
  const ModelConfig& c = model_.config();
  const size_t end = first + queries.rows;
  if (end + queries_.rows > n_) {
    const size_t begin = n_ - queries_.rows;  // new token of the first query that is kept
    parallel_for(queries.heads, [&](size_t h, size_t) {
      for (size_t p = std::max(first, begin); p < end; ++p) {
        std::copy_n(queries.row(h, p - first), queries.dim, queries_.row(h, p - begin));
      }
    });
  }
  if (sums_) {
    const Matrix<float> denominators = log_sums(queries.rows);
    const Matrix<float> sums(memory_->sums.data(), c.query_heads, rows_);
    const size_t group = c.query_heads / kv.heads();
    for (const LayerKv::Part& part : kv.parts()) {
      const size_t heads = part.heads * group;
      const size_t visible = rows_ - part.hidden;
      const auto rows = sums.slice(part.head * group, heads);
      attention_sums(queries.slice_heads(part.head * group, heads),
                     kv.keys().slice_heads(part.head, part.heads).slice_rows(part.hidden, visible),
                     prefix_ - part.hidden + first,
                     {.scale = c.attention_scale, .softcap = c.attention_softcap},
                     denominators.slice(part.head * group, heads),
                     {rows.data + part.hidden, heads, visible, rows.stride}, part.mask);
    }
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
  const size_t position = position_ + first;
  rope_.rotate_back(rows, position);
  for (size_t i = 0; i < moments_.size(); ++i) {
    const size_t skipped = moments_[i].skipped;
    const size_t skip = std::min(rows.rows, skipped - std::min(skipped, position));
    memory_->statistics[i].add(rows.slice_rows(skip, rows.rows - skip));
  }
}

LayerObservation LayerObserver::observation(size_t i, size_t layer) {
  const ModelConfig& c = model_.config();
  const CompressionOptions& options = requests_[i].options;
  LayerObservation result;
  result.queries = memory_->queries();
  result.scale = c.attention_scale;
  result.softcap = c.attention_softcap;
  // Allocations share a budget among the layers that have one.
  result.layer = static_cast<size_t>(
      std::count(c.windows.begin(), c.windows.begin() + static_cast<std::ptrdiff_t>(layer), 0UL));
  result.layers = c.global_layers();
  if (sums_) result.attention_sums = {memory_->sums.data(), c.query_heads, rows_};
  for (size_t m = 0; m < moments_.size(); ++m) {
    if (moments_[m].request != i) continue;
    result.query_statistics = &memory_->statistics[m];
    result.future_rotation = &moments_[m].rotation;
  }
  // No need to factorise W_O for a prompt that is kept whole.
  if (!remember_ && n_ <= static_cast<size_t>(std::max(options.budget, 0))) return result;
  if (needs_output_factor(options)) result.output = &model_.output_factor(layer);
  if (needs_output_weights(options)) {
    result.output_weights = model_.weights().layers[layer].output.densify(output_weights_);
  }
  return result;
}

}  // namespace restkv
