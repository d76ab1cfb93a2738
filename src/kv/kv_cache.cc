#include "restkv/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/threads.h"
#include "kv/half.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Spare room when a head grows while decoding: a few per cent, so that a kept cache stays small.
size_t grown_capacity(size_t rows) { return rows + std::max<size_t>(64, rows / 32); }

}  // namespace

KvCache::KvCache(size_t layers, size_t kv_heads, size_t key_dim, size_t value_dim, KvType type)
    : type_(type), kv_heads_(kv_heads), key_dim_(key_dim), value_dim_(value_dim), layers_(layers) {}

KvCache::KvCache(const KvCache& other)
    : next_position(other.next_position),
      type_(other.type_),
      kv_heads_(other.kv_heads_),
      key_dim_(other.key_dim_),
      value_dim_(other.value_dim_),
      layers_(other.layers_) {
  for (Layer& layer : layers_) refresh_views(layer);  // they showed the other's rows
}

void KvCache::store(const float* row, size_t dim, std::byte* to) const {
  if (type_ == KvType::kF16) {
    to_half(row, dim, reinterpret_cast<uint16_t*>(to));
  } else {
    std::memcpy(to, row, dim * sizeof(float));
  }
}

void KvCache::append_row(std::vector<std::byte>& rows, const float* row, size_t dim) const {
  const size_t used = rows.size();
  const size_t row_bytes = dim * element_bytes(type_);
  if (used + row_bytes > rows.capacity())
    rows.reserve(grown_capacity(used / row_bytes) * row_bytes);
  rows.resize(used + row_bytes);
  store(row, dim, rows.data() + used);
}

void KvCache::gather(size_t layer, Heads<const float> keys, Heads<const float> values,
                     const Selection& selection) {
  const size_t cache_heads = selection.keep.size();
  Layer& target = find_layer(layer);
  if (keys.heads != kv_heads_ || values.heads != kv_heads_ || keys.dim != key_dim_ ||
      values.dim != value_dim_ || values.rows != keys.rows || cache_heads == 0 ||
      cache_heads % kv_heads_ != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("gather: {} cache heads cannot be filled from keys [{}, {}, {}] and "
                            "values [{}, {}, {}] (the cache was made for {} KV heads of {} and {})",
                            cache_heads, keys.heads, keys.rows, keys.dim, values.heads, values.rows,
                            values.dim, kv_heads_, key_dim_, value_dim_));
  }
  for (size_t h = 0; h < cache_heads; ++h) {
    for (const int32_t position : selection.keep[h]) {
      if (position < 0 || static_cast<size_t>(position) >= keys.rows) {
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("gather: position {} of cache head {} lies outside the {} rows",
                                position, h, keys.rows));
      }
    }
  }
  const size_t repeat = cache_heads / kv_heads_;
  const size_t key_bytes = key_dim_ * element_bytes(type_);
  const size_t value_bytes = value_dim_ * element_bytes(type_);
  target.heads.assign(cache_heads, {});
  parallel_for(cache_heads, [&](size_t h, size_t) {
    const std::vector<int32_t>& keep = selection.keep[h];
    Head& head = target.heads[h];
    // Long heads get a little room at once: moving all of them at the first token after the prompt
    // would need the memory of the cache twice.
    const size_t rows = keep.size() + keep.size() / 64;
    head.positions.reserve(rows);
    head.keys.reserve(rows * key_bytes);
    head.values.reserve(rows * value_bytes);
    head.positions = keep;
    head.keys.resize(keep.size() * key_bytes);
    head.values.resize(keep.size() * value_bytes);
    for (size_t i = 0; i < keep.size(); ++i) {
      const auto row = static_cast<size_t>(keep[i]);
      store(keys.row(h / repeat, row), key_dim_, head.keys.data() + i * key_bytes);
      store(values.row(h / repeat, row), value_dim_, head.values.data() + i * value_bytes);
    }
  });
  refresh_views(target);
}

void KvCache::append(size_t layer, Matrix<const float> keys, Matrix<const float> values,
                     int32_t position) {
  Layer& target = find_layer(layer);
  if (keys.rows != kv_heads_ || values.rows != kv_heads_ || keys.cols != key_dim_ ||
      values.cols != value_dim_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("append: keys [{}, {}] and values [{}, {}] do not fit a cache made for "
                            "{} KV heads of {} and {}",
                            keys.rows, keys.cols, values.rows, values.cols, kv_heads_, key_dim_,
                            value_dim_));
  }
  if (target.heads.empty()) target.heads.resize(kv_heads_);
  const size_t repeat = target.heads.size() / kv_heads_;
  if (target.limit > 0 && target.heads[0].positions.size() == target.limit) {
    for (size_t h = 0; h < target.heads.size(); ++h) {
      Head& head = target.heads[h];
      store(keys.row(h / repeat), key_dim_,
            head.keys.data() + target.oldest * key_dim_ * element_bytes(type_));
      store(values.row(h / repeat), value_dim_,
            head.values.data() + target.oldest * value_dim_ * element_bytes(type_));
      head.positions[target.oldest] = position;
    }
    target.oldest = (target.oldest + 1) % target.limit;
    return;
  }
  for (size_t h = 0; h < target.heads.size(); ++h) {
    Head& head = target.heads[h];
    append_row(head.keys, keys.row(h / repeat), key_dim_);
    append_row(head.values, values.row(h / repeat), value_dim_);
    if (head.positions.size() == head.positions.capacity()) {
      head.positions.reserve(grown_capacity(head.positions.size()));
    }
    head.positions.push_back(position);
  }
  refresh_views(target);
}

void KvCache::limit(size_t layer, size_t rows) {
  Layer& target = find_layer(layer);
  for (const Head& head : target.heads) {
    if (head.positions.size() <= rows && rows > 0) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("limit: layer {} holds {} rows per head, more than {}", layer,
                            head.positions.size(), rows));
  }
  target.limit = rows;
  target.oldest = 0;
}

KvCache::Layer& KvCache::find_layer(size_t layer) {
  if (layer >= layers_.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("there is no layer {} in a cache of {}", layer, layers_.size()));
  }
  return layers_[layer];
}

void KvCache::refresh_views(Layer& layer) const {
  layer.views.clear();
  for (const Head& head : layer.heads) {
    layer.views.push_back({head.keys.data(), head.values.data(), head.positions.size(), type_});
  }
}

size_t KvCache::kept_bytes() const {
  size_t rows = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) rows += head.positions.size();
  }
  return rows * (key_dim_ + value_dim_) * element_bytes(type_);
}

size_t KvCache::allocated_bytes() const {
  size_t bytes = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) {
      bytes += head.keys.capacity() + head.values.capacity() +
               head.positions.capacity() * sizeof(int32_t);
    }
  }
  return bytes;
}

}  // namespace restkv
