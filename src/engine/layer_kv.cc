#include "engine/layer_kv.h"

#include <algorithm>
#include <numeric>

#include "base/threads.h"
#include "restkv/attention.h"

namespace restkv {

namespace {

/// Changes the size and forgets the contents. The old memory is freed before there is new memory:
/// these are the largest arrays of a prompt.
void make_room(AlignedVector<float>& numbers, size_t size) {
  if (size > numbers.capacity()) numbers = AlignedVector<float>();
  numbers.resize(size);
}

}  // namespace

void LayerKv::begin(const ModelConfig& config, const KvCache* cache, size_t layer, size_t n,
                    size_t position, size_t guests) {
  const size_t cached_heads = cache != nullptr ? cache->heads(layer).size() : 0;
  heads_ = cached_heads > 0 ? cached_heads : config.kv_heads;
  key_dim_ = config.key_dim;
  value_dim_ = config.value_dim;
  const auto count = [&](size_t h) {
    return cached_heads > 0 ? cache->positions(layer, h).size() : 0;
  };
  prefix_ = 0;
  for (size_t h = 0; h < heads_; ++h) prefix_ = std::max(prefix_, count(h));
  rows_ = owned_ = prefix_ + n;
  room_ = owned_ + guests;
  make_room(keys_, heads_ * room_ * key_dim_);
  make_room(values_, heads_ * room_ * value_dim_);

  bias_.clear();
  for (size_t h = 0; h < cached_heads && bias_.empty(); ++h) {
    if (!cache->bias(layer, h).empty()) bias_.assign(heads_ * room_, 0.0F);
  }
  parts_.clear();
  positions_.resize(heads_);
  for (size_t h = 0; h < heads_; ++h) {
    const size_t padding = prefix_ - count(h);
    if (parts_.empty() || parts_.back().padding != padding) parts_.push_back({h, 0, padding});
    ++parts_.back().heads;
    positions_[h].assign(owned_, -1);
    std::iota(positions_[h].begin() + static_cast<ptrdiff_t>(prefix_), positions_[h].end(),
              static_cast<int32_t>(position));
    if (count(h) == 0) continue;
    std::ranges::copy(cache->positions(layer, h),
                      positions_[h].begin() + static_cast<ptrdiff_t>(padding));
    if (!bias_.empty()) std::ranges::copy(cache->bias(layer, h), bias().row(h) + padding);
  }
  parallel_for(prefix_ > 0 ? heads_ : 0, [&](size_t h, size_t) {
    const size_t padding = prefix_ - count(h);
    if (count(h) > 0) {
      cache->read(layer, h, keys().head(h).slice(padding, count(h)),
                  values().head(h).slice(padding, count(h)));
    }
  });
}

void LayerKv::store(Heads<const float> keys, Heads<const float> values, size_t first) {
  copy(keys, first, this->keys());
  copy(values, first, this->values());
}

void LayerKv::copy(Heads<const float> block, size_t first, Heads<float> to) const {
  const size_t repeat = heads_ / block.heads;
  parallel_for(heads_, [&](size_t h, size_t) {
    for (size_t r = 0; r < block.rows; ++r) {
      std::copy_n(block.row(h / repeat, r), block.dim, to.row(h, prefix_ + first + r));
    }
  });
}

void LayerKv::attend(Heads<const float> queries, size_t first, size_t end, AttentionOptions options,
                     Heads<float> out, Matrix<float> lse) {
  const size_t group = queries.heads / heads_;
  for (const Part& part : parts_) {
    options.keys_end = prefix_ - part.padding + end;
    const size_t begin = part.head * group;
    const size_t count = part.heads * group;
    AttentionOptions biased = options;
    biased.bias = visible_bias(part);
    if (!options.sink_logits.empty()) {
      biased.sink_logits = options.sink_logits.subspan(begin, count);
    }
    prefill_attention(queries.slice_heads(begin, count), visible(part, keys()),
                      visible(part, values()), prefix_ - part.padding + first, biased,
                      out.slice_heads(begin, count),
                      lse.data != nullptr ? lse.slice(begin, count) : lse, part.mask);
  }
}

void LayerKv::release() {
  // `= {}` would keep it.
  keys_ = AlignedVector<float>();
  values_ = AlignedVector<float>();
  bias_ = std::vector<float>();
}

}  // namespace restkv
