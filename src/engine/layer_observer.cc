#include "engine/layer_observer.h"

#include <algorithm>
#include <utility>

#include "base/threads.h"
#include "engine/checks.h"
#include "engine/token_observer.h"
#include "model/weights.h"
#include "restkv/attention.h"

namespace restkv {
LayerObserver::LayerObserver(const Model& model, std::vector<const CompressionOptions*> requests,
                             size_t n, RopeTable& rope, size_t position, bool remember)
    : model_(model),
      requests_(std::move(requests)),
      rope_(&rope),
      n_(n),
      position_(position),
      remember_(remember) {
  rotations_.resize(requests_.size());
  for (size_t i = 0; i < requests_.size(); ++i) {
    const CompressionOptions& options = *requests_[i];
    for (const size_t offset : rotation_offsets(options)) {
      rotations_[i].push_back(rope.at(position + n + offset));
    }
    // What is kept whole is not scored.
    if (!remember && keeps_whole(options, n)) continue;
    const size_t observed = observed_queries(options);
    observed_ = std::max(observed_, remember ? observed : std::min(n, observed));
    observed_outputs_ = std::max(observed_outputs_, std::min(n, observed_outputs(options)));
    sums_ = sums_ || needs_attention_sums(options);
    all_rows_ = all_rows_ || sums_;
    if (const WatchedTokens tokens = watched_tokens(options); tokens != WatchedTokens::kNone) {
      watches_.push_back({i, tokens == WatchedTokens::kAll ? WatchedTokens::kContext : tokens});
      const bool outputs = watches_outputs(options);
      fed_outputs_ = fed_outputs_ || (outputs && tokens == WatchedTokens::kRepeat);
      all_rows_ = all_rows_ || (outputs && tokens == WatchedTokens::kContext);
    }
    if (const size_t wanted = restkv::repeat_queries(options); wanted > 0) {
      repeat_queries_.push_back({.request = i, .wanted = wanted});
    }
    if (needs_query_statistics(options)) {
      query_statistics_.push_back({i, static_cast<size_t>(options.sinks),
                                   rope.mean(position + n, future_positions(options))});
    }
  }
  size_t most = 1;
  for (const std::vector<MeanRotation>& rotations : rotations_) {
    most = std::max(most, rotations.size());
  }
  MeanRotation none = rope.at(0);
  std::ranges::fill(none.cosine, 1.0F);
  std::ranges::fill(none.sine, 0.0F);
  if (model.config().still_period > 0) still_.assign(most, none);
}

void LayerObserver::begin_layer(size_t rows, size_t prefix, LayerState* memory) {
  const ModelConfig& c = model_.config();
  rows_ = rows;
  prefix_ = prefix;
  memory_ = memory != nullptr ? memory : &own_;
  LayerState& m = *memory_;
  if (memory == nullptr) {
    m.forget_queries();
    m.statistics.clear();
    m.watched.clear();
  }
  if (m.statistics.size() != query_statistics_.size()) {
    m.statistics.resize(query_statistics_.size(), QueryStatistics(c.query_heads, c.key_dim));
  }
  const size_t added = std::min(observed_, n_);
  queries_ = m.make_room(c.query_heads, c.key_dim, observed_ - added, added);
  query_lse_.begin(n_, c.query_heads, added, 1);
  outputs_.begin(n_, c.query_heads, observed_outputs_, c.value_dim);

  m.watched.resize(watches_.size(), nothing_watched());
  for (RowValues& watched : m.watched) watched.resize(c.query_heads, rows);

  fed_so_far_ = 0;
  for (RepeatQueries& queries : repeat_queries_) {
    const size_t count = std::min(queries.wanted, fed_tokens_);
    queries.memory.resize(c.query_heads * count * c.key_dim);
    queries.rows = {queries.memory.data(), c.query_heads, count, c.key_dim};
    queries.count = 0;
  }

  if (!sums_) return;
  m.sums.resize(c.query_heads, memory != nullptr ? prefix : 0);
  m.sums.resize(c.query_heads, rows);
}

Matrix<float> LayerObserver::lse(size_t rows, size_t end) {
  const size_t heads = model_.config().query_heads;
  lse_ = {};
  if (rows == 0 || (!all_rows_ && end + queries_.rows <= n_)) return {};
  lse_storage_.resize(heads * rows);
  lse_ = {lse_storage_.data(), heads, rows};
  return lse_;
}

Matrix<float> LayerObserver::fed_lse(size_t rows) {
  const size_t heads = model_.config().query_heads;
  lse_ = {};
  if (!fed_outputs_) return {};
  lse_storage_.resize(heads * rows);
  lse_ = {lse_storage_.data(), heads, rows};
  return lse_;
}

void LayerObserver::add(Heads<const float> queries, Heads<const float> outputs, LayerKv& kv,
                        size_t first, Matrix<const float> inputs, size_t layer) {
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
  query_lse_.add({lse_.data, lse_.rows, lse_.cols, 1, lse_.stride, 1}, end);
  outputs_.add(outputs, end);
  if (sums_) {
    const Matrix<float> denominators = lse_;
    const Matrix<float> sums = memory_->sums.all();
    const size_t group = c.query_heads / kv.heads();
    for (const LayerKv::Part& part : kv.parts()) {
      const size_t heads = part.heads * group;
      const size_t visible = rows_ - part.padding;
      const auto rows = sums.slice(part.head * group, heads);
      attention_sums(queries.slice_heads(part.head * group, heads),
                     kv.keys().slice_heads(part.head, part.heads).slice_rows(part.padding, visible),
                     prefix_ - part.padding + first,
                     {.scale = c.attention_scale,
                      .softcap = c.attention_softcap,
                      .bias = kv.visible_bias(part)},
                     denominators.slice(part.head * group, heads),
                     {rows.data + part.padding, heads, visible, rows.stride}, part.mask);
    }
  }
  if (!query_statistics_.empty()) add_query_statistics(queries, first, layer);
  if (watches(WatchedTokens::kContext)) {
    const size_t begin = prefix_ + first;
    show(WatchedTokens::kContext,
         {.queries = queries,
          .inputs = inputs,
          .own_keys = kv.keys().slice_rows(begin, queries.rows),
          .own_values = kv.values().slice_rows(begin, queries.rows),
          .keys = kv.keys().slice_rows(0, begin + queries.rows),
          .values = kv.values().slice_rows(0, begin + queries.rows),
          .lse = lse_,
          .outputs = outputs,
          .begin = begin,
          .end = begin + queries.rows,
          .layer = layer},
         kv);
  }
}

void LayerObserver::add_fed(Heads<const float> queries, Heads<const float> outputs,
                            Matrix<const float> inputs, LayerKv& kv, size_t layer, size_t fed,
                            size_t begin, size_t end) {
  for (RepeatQueries& some : repeat_queries_) {
    for (; some.count < some.rows.rows; ++some.count) {
      const size_t token = fed_token(some, some.count);
      if (token >= fed_so_far_ + queries.rows) break;
      for (size_t h = 0; h < queries.heads; ++h) {
        std::copy_n(queries.row(h, token - fed_so_far_), queries.dim, some.rows.row(h, some.count));
      }
    }
  }
  fed_so_far_ += queries.rows;
  show(WatchedTokens::kRepeat,
       {.queries = queries,
        .inputs = inputs,
        .own_keys = kv.keys().slice_rows(kv.owned(), fed),
        .own_values = kv.values().slice_rows(kv.owned(), fed),
        .keys = kv.keys().slice_rows(0, kv.owned()),
        .values = kv.values().slice_rows(0, kv.owned()),
        .lse = lse_,
        .outputs = outputs,
        .begin = prefix_ + begin,
        .end = prefix_ + end,
        .layer = layer},
       kv);
}

bool LayerObserver::watches(WatchedTokens tokens) const {
  return std::ranges::any_of(watches_, [&](const Watch& w) { return w.tokens == tokens; });
}

void LayerObserver::show(WatchedTokens tokens, const BlockObservation& block, LayerKv& kv) {
  const ModelConfig& c = model_.config();
  const size_t group = c.query_heads / kv.heads();
  for (size_t w = 0; w < watches_.size(); ++w) {
    if (watches_[w].tokens != tokens) continue;
    const CompressionOptions& options = *requests_[watches_[w].request];
    const Matrix<float> watched = memory_->watched[w].all();
    for (const LayerKv::Part& part : kv.parts()) {
      const size_t head = part.head * group;
      const size_t heads = part.heads * group;
      const auto of_part = [&](const Heads<const float>& x, size_t padding) {
        return x.slice_heads(part.head, part.heads).slice_rows(padding, x.rows - padding);
      };
      BlockObservation own = block;
      own.queries = block.queries.slice_heads(head, heads);
      if (watches_outputs(options)) {
        own.lse = block.lse.slice(head, heads);
        own.outputs = block.outputs.slice_heads(head, heads);
      } else {
        own.lse = {};
        own.outputs = {};
      }
      own.own_keys = of_part(block.own_keys, 0);
      own.own_values = of_part(block.own_values, 0);
      own.keys = of_part(block.keys, part.padding);
      own.values = of_part(block.values, part.padding);
      own.bias = kv.visible_bias(part);
      own.begin -= part.padding;
      own.end -= part.padding;
      own.scale = c.attention_scale;
      own.softcap = c.attention_softcap;
      const std::span<const float> sinks = model_.weights().layers[block.layer].sink_logits;
      if (!sinks.empty()) own.sink_logits = sinks.subspan(head, heads);
      own.precision = model_.attention_precision();
      own.first_query_head = head;
      own.query_heads = c.query_heads;
      if (needs_output_factor(options)) own.output = &model_.output_factor(block.layer);
      own.layer = c.global_layers_before(block.layer);
      const Matrix<float> to(watched.row(head) + part.padding, heads, rows_ - part.padding,
                             watched.stride);
      with_model_path(model_, [&] { find_method(options.method).watch(own, options, to); });
    }
  }
}

void LayerObserver::LastRows::begin(size_t n, size_t heads, size_t count, size_t dim) {
  memory_.resize(heads * count * dim);
  rows_ = {memory_.data(), heads, count, dim};
  first_ = n - count;
  count_ = 0;
}

void LayerObserver::LastRows::add(Heads<const float> block, size_t end) {
  if (end <= first_) return;
  const size_t begin = std::max(first_, end - std::min(end, block.rows));
  for (size_t h = 0; h < block.heads; ++h) {
    for (size_t p = begin; p < end; ++p) {
      std::copy_n(block.row(h, block.rows - (end - p)), block.dim, rows_.row(h, p - first_));
    }
  }
  count_ = begin == first_ + count_ ? end - first_ : 0;
}

void LayerObserver::add_query_statistics(Heads<const float> queries, size_t first, size_t layer) {
  const Heads<const float> rows = model_.config().rotates(layer)
                                      ? unrotated(queries, *rope_, position_ + first, unrotated_)
                                      : queries;
  for (size_t i = 0; i < query_statistics_.size(); ++i) {
    const size_t skipped = query_statistics_[i].skipped;
    const size_t skip = std::min(rows.rows, skipped - std::min(skipped, position_ + first));
    memory_->statistics[i].add(rows.slice_rows(skip, rows.rows - skip));
  }
}

Heads<const float> LayerObserver::unrotated_keys(size_t i, size_t layer, LayerKv& kv) {
  if (!needs_unrotated_keys(*requests_[i])) return {};
  const Heads<float> keys = kv.keys();
  if (!model_.config().rotates(layer)) return keys;
  unrotated_keys_.assign(keys.data, keys.data + keys.heads * keys.rows * keys.dim);
  const Heads<float> plain(unrotated_keys_.data(), keys.heads, keys.rows, keys.dim);
  for (size_t h = 0; h < keys.heads; ++h) {
    const std::vector<int32_t>& positions = kv.positions()[h];
    for (size_t begin = 0, end; begin < keys.rows; begin = end) {  // rows of adjacent positions
      end = begin + 1;
      while (end < keys.rows && positions[end] == positions[end - 1] + 1) ++end;
      if (positions[begin] < 0) continue;  // padding
      rope_->rotate_back(plain.slice_heads(h, 1).slice_rows(begin, end - begin),
                         static_cast<size_t>(positions[begin]));
    }
  }
  return plain;
}

LayerObservation LayerObserver::observation(size_t i, size_t layer) {
  const ModelConfig& c = model_.config();
  const CompressionOptions& options = *requests_[i];
  LayerObservation result;
  result.queries = memory_->queries();
  // Denominators include all tokens that a query saw; some may have been evicted since.
  const Heads<float>& lse = query_lse_.rows();
  if (prefix_ == 0 && query_lse_.complete() && lse.rows == result.queries.rows) {
    result.lse = {lse.data, lse.heads, lse.rows};
    if (outputs_.complete()) result.outputs = outputs_.rows();
  }
  result.scale = c.attention_scale;
  result.softcap = c.attention_softcap;
  result.sink_logits = model_.weights().layers[layer].sink_logits;
  // Allocations distribute the budget over layers without a sliding window.
  result.layer = c.global_layers_before(layer);
  result.layers = c.global_layers();
  result.rotations = rotations_[i];
  const bool still = !c.rotates(layer);
  if (still) result.rotations = std::span(still_).first(rotations_[i].size());
  for (const RepeatQueries& queries : repeat_queries_) {
    if (queries.request == i) result.repeat_queries = queries.rows.slice_rows(0, queries.count);
  }
  if (sums_) result.attention_sums = memory_->sums.all();
  for (size_t w = 0; w < watches_.size(); ++w) {
    if (watches_[w].request == i) result.watched = memory_->watched[w].all();
  }
  for (size_t m = 0; m < query_statistics_.size(); ++m) {
    if (query_statistics_[m].request != i) continue;
    result.query_statistics = &memory_->statistics[m];
    result.future_rotation = still ? &still_.front() : &query_statistics_[m].rotation;
  }
  // No need to factorise W_O for a prompt that is kept whole.
  if (!remember_ && keeps_whole(options, n_)) return result;
  if (needs_output_factor(options)) result.output = &model_.output_factor(layer);
  if (needs_output_weights(options)) {
    result.output_weights = model_.weights().layers[layer].output.dequantize(output_weights_);
  }
  return result;
}

}  // namespace restkv
