#include "restkv/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/find_named.h"
#include "base/pages.h"
#include "base/threads.h"
#include "kv/half.h"
#include "kv/kv_layout.h"
#include "restkv/error.h"

namespace restkv {
namespace {

struct NamedType {
  std::string_view name;
  KvType type;
};
constexpr std::array<NamedType, 4> kTypes{
    {{"f16", KvType::kF16}, {"f32", KvType::kF32}, {"q8", KvType::kQ8}, {"q4", KvType::kQ4}}};

/// Throws if a finite number of a key or value overflows half precision. NaN and infinity of the
/// inputs are stored as they are; attention reports them.
void refuse_overflow(size_t layer, size_t head, std::span<const float> key,
                     std::span<const float> value) {
  for (const auto& [name, row] : {std::pair("key", key), std::pair("value", value)}) {
    for (const float x : row) {
      if (!std::isfinite(x) || std::abs(x) < kLeastInfinite) continue;
      throw Error(ErrorCode::kInput,
                  fmt::format("a {} of layer {}, KV head {} holds {}, and half precision, in which "
                              "types f16, q8 and q4 keep rows, ends at {}: store the cache in f32 "
                              "(kv_type f32)",
                              name, layer, head, x, kLargestHalf));
    }
  }
}

/// Capacity of a head that grows while decoding: a few per cent of spare room.
size_t grown_capacity(size_t rows) { return rows + std::max<size_t>(64, rows / 32); }

/// Capacity of a head that has just been filled. Long heads get spare room at once. Otherwise the
/// first token after the prompt would move all of them, which needs twice the memory of the cache.
size_t spacious(size_t rows) { return rows + rows / 64; }

}  // namespace

std::string_view kv_type_name(KvType type) {
  for (const NamedType& t : kTypes) {
    if (t.type == type) return t.name;
  }
  return "unknown";
}

KvType find_kv_type(std::string_view name) {
  if (name == "q8_0" || name == "q4_0") name.remove_suffix(2);  // llama.cpp's names
  return find_named(kTypes, &NamedType::name, name,
                    "there is no storage type \"{}\" for keys and values; choose one of {}")
      .type;
}

KvCache::KvCache(size_t layers, size_t kv_heads, size_t key_dim, size_t value_dim, KvType type)
    : type_(type), kv_heads_(kv_heads), key_dim_(key_dim), value_dim_(value_dim), layers_(layers) {}

KvCache::KvCache(const KvCache& other)
    : next_position(other.next_position),
      type_(other.type_),
      kv_heads_(other.kv_heads_),
      key_dim_(other.key_dim_),
      value_dim_(other.value_dim_),
      layers_(other.layers_) {
  for (Layer& layer : layers_) refresh_views(layer);  // the copied views refer to `other`
}

void KvCache::reserve(Head& head, size_t rows) const {
  head.positions.reserve(rows);
  if (!head.bias.empty()) head.bias.reserve(rows);
  head.data.reserve(layout().max_bytes(rows));
}

bool KvCache::append_row(Head& head, const float* key, const float* value, int32_t position) const {
  const KvLayout layout = this->layout();
  const size_t rows = head.positions.size();
  if (layout.max_bytes(rows + 1) > head.data.capacity() || rows == head.positions.capacity()) {
    reserve(head, grown_capacity(rows));
  }
  const size_t used = head.data.size();
  head.data.resize(used + layout.row_bytes());
  const bool finite = pack_row(layout, key, value, head.data.data() + used);
  head.positions.push_back(position);
  if (!head.bias.empty()) head.bias.push_back(0.0F);
  if (layout.packed_blocks(rows + 1) > layout.packed_blocks(rows)) pack_oldest_rows(head);
  return finite;
}

void KvCache::pack_oldest_rows(Head& head) const {
  const KvLayout layout = this->layout();
  const size_t begin = (layout.packed_blocks(head.positions.size()) - 1) * layout.block_bytes();
  const size_t rows_bytes = kBlockRows * layout.row_bytes();
  std::byte* block = head.data.data() + begin;
  pack_block(layout, block, block);
  if (layout.block_bytes() == rows_bytes) return;
  const size_t rest = head.data.size() - begin - rows_bytes;
  std::memmove(block + layout.block_bytes(), block + rows_bytes, rest);
  head.data.resize(begin + layout.block_bytes() + rest);
}

void KvCache::gather(size_t layer, Heads<const float> keys, Heads<const float> values,
                     const Selection& selection, std::span<const std::vector<int32_t>> positions,
                     bool open, Matrix<const float> bias) {
  const size_t cache_heads = selection.keep.size();
  Layer& target = find_layer(layer);
  if ((keys.heads != kv_heads_ && keys.heads != cache_heads) || values.heads != keys.heads ||
      keys.dim != key_dim_ || values.dim != value_dim_ || values.rows != keys.rows ||
      cache_heads == 0 || cache_heads % kv_heads_ != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("gather: {} cache heads cannot be filled from keys [{}, {}, {}] and "
                            "values [{}, {}, {}] (the cache was made for {} KV heads of {} and {})",
                            cache_heads, keys.heads, keys.rows, keys.dim, values.heads, values.rows,
                            values.dim, kv_heads_, key_dim_, value_dim_));
  }
  if (bias.data != nullptr && (bias.rows != keys.heads || bias.cols != keys.rows)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("gather: biases are [{}, {}], but keys [{}, {}, {}]", bias.rows,
                            bias.cols, keys.heads, keys.rows, keys.dim));
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
  const size_t repeat = cache_heads / keys.heads;
  const KvLayout layout = this->layout();
  target.heads.clear();  // first, so that there are never two caches in memory
  target.heads.resize(cache_heads);
  target.open = open;
  std::vector<std::pair<size_t, size_t>> blocks;  // head, first row
  for (size_t h = 0; h < cache_heads; ++h) {
    const size_t rows = selection.keep[h].size();
    Head& head = target.heads[h];
    if (open) {
      head.data.resize(rows * layout.row_bytes());
    } else {
      reserve(head, spacious(rows));
      head.data.resize(layout.bytes(rows));
    }
    head.positions.resize(rows);
    if (bias.data != nullptr) head.bias.resize(rows);
    for (size_t row = 0; row < rows; row += kBlockRows) blocks.emplace_back(h, row);
  }
  parallel_for(cache_heads, [&](size_t h, size_t) {
    AlignedVector<std::byte>& data = target.heads[h].data;
    prefer_large_pages(data.data(), data.size());
    populate_pages(data.data(), data.size());
  });
  std::atomic<bool> all_finite = true;
  parallel_for(blocks.size(), [&](size_t task, size_t) {
    const auto [h, begin] = blocks[task];
    Head& head = target.heads[h];
    const std::span<const int32_t> keep(selection.keep[h]);
    const size_t block = begin / kBlockRows;
    const size_t count = std::min(kBlockRows, keep.size() - begin);
    BlockRows key_rows;
    BlockRows value_rows;
    for (size_t i = 0; i < count; ++i) {
      const auto row = static_cast<size_t>(keep[begin + i]);
      key_rows[i] = keys.row(h / repeat, row);
      value_rows[i] = values.row(h / repeat, row);
      head.positions[begin + i] = positions.empty() ? keep[begin + i] : positions[h / repeat][row];
      if (bias.data != nullptr) head.bias[begin + i] = bias.row(h / repeat)[row];
    }
    std::byte* to = head.data.data() +
                    (open ? begin * layout.row_bytes() : layout.block_offset(block, keep.size()));
    bool finite = true;
    if (!open && block < layout.packed_blocks(keep.size())) {
      finite = pack_block(layout, key_rows, value_rows, to);
    } else {
      for (size_t i = 0; i < count; ++i, to += layout.row_bytes()) {
        finite = pack_row(layout, key_rows[i], value_rows[i], to) && finite;
      }
    }
    if (!finite) all_finite = false;
  });
  refresh_views(target);
  if (all_finite) return;
  for (size_t h = 0; h < cache_heads; ++h) {
    for (const int32_t kept : selection.keep[h]) {
      const auto row = static_cast<size_t>(kept);
      refuse_overflow(layer, h / repeat, {keys.row(h / repeat, row), key_dim_},
                      {values.row(h / repeat, row), value_dim_});
    }
  }
}

void KvCache::keep(size_t layer, const Selection& rows) {
  Layer& target = find_layer(layer);
  if (!target.open || rows.keep.size() != target.heads.size()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("keep: rows of {} heads do not fit layer {}, which is {} and has {}",
                    rows.keep.size(), layer, target.open ? "open" : "closed", target.heads.size()));
  }
  for (size_t h = 0; h < target.heads.size(); ++h) {
    for (const int32_t row : rows.keep[h]) {
      if (row >= 0 && static_cast<size_t>(row) < target.heads[h].positions.size()) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("keep: row {} of cache head {} lies outside its {} rows", row, h,
                              target.heads[h].positions.size()));
    }
  }
  const size_t row_bytes = layout().row_bytes();
  parallel_for(target.heads.size(), [&](size_t h, size_t) {
    const Head& from = target.heads[h];
    const std::vector<int32_t>& keep = rows.keep[h];
    if (keep.size() == from.positions.size()) return;
    Head to;
    to.data.resize(keep.size() * row_bytes);
    to.positions.resize(keep.size());
    if (!from.bias.empty()) to.bias.resize(keep.size());
    for (size_t i = 0; i < keep.size(); ++i) {
      const auto row = static_cast<size_t>(keep[i]);
      std::memcpy(to.data.data() + i * row_bytes, from.data.data() + row * row_bytes, row_bytes);
      to.positions[i] = from.positions[row];
      if (!from.bias.empty()) to.bias[i] = from.bias[row];
    }
    target.heads[h] = std::move(to);
  });
}

void KvCache::refit(size_t layer, size_t head, Matrix<const float> values,
                    std::span<const float> bias) {
  Layer& target = find_layer(layer);
  if (!target.open || head >= target.heads.size() ||
      values.rows != target.heads[head].positions.size() || values.cols != value_dim_ ||
      bias.size() != values.rows) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("refit: values [{}, {}] and {} biases do not fit head {} of layer {}, "
                            "which is {}",
                            values.rows, values.cols, bias.size(), head, layer,
                            target.open ? "open" : "closed"));
  }
  const KvLayout layout = this->layout();
  Head& to = target.heads[head];
  AlignedVector<float> key(key_dim_), old_value(value_dim_);
  for (size_t row = 0; row < values.rows; ++row) {
    std::byte* data = to.data.data() + row * layout.row_bytes();
    unpack_rows(layout, data, {key.data(), 1, key_dim_}, {old_value.data(), 1, value_dim_});
    if (!pack_row(layout, key.data(), values.row(row), data)) {
      refuse_overflow(layer, head, key, values.row_span(row));
    }
  }
  to.bias.assign(bias.begin(), bias.end());
}

void KvCache::close(size_t layer) {
  Layer& target = find_layer(layer);
  if (!target.open) return;
  const KvLayout layout = this->layout();
  parallel_for(target.heads.size(), [&](size_t h, size_t) {
    Head& head = target.heads[h];
    const size_t rows = head.positions.size();
    const AlignedVector<std::byte> from = std::exchange(head.data, {});
    reserve(head, spacious(rows));
    head.data.resize(layout.bytes(rows));
    const size_t blocks = layout.packed_blocks(rows);
    for (size_t block = 0; block < blocks; ++block) {
      pack_block(layout, from.data() + block * kBlockRows * layout.row_bytes(),
                 head.data.data() + layout.block_offset(block, rows));
    }
    const size_t packed = blocks * kBlockRows;
    std::copy(from.begin() + static_cast<ptrdiff_t>(packed * layout.row_bytes()), from.end(),
              head.data.begin() + static_cast<ptrdiff_t>(layout.block_offset(blocks, rows)));
  });
  target.open = false;
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
  bool finite = true;
  for (size_t h = 0; h < target.heads.size(); ++h) {
    Head& head = target.heads[h];
    finite = append_row(head, keys.row(h / repeat), values.row(h / repeat), position) && finite;
    if (target.limit > 0 && head.rows() > target.limit) drop_row(head);
  }
  refresh_views(target);
  for (size_t h = 0; h < kv_heads_ && !finite; ++h) {
    refuse_overflow(layer, h, keys.row_span(h), values.row_span(h));
  }
}

void KvCache::limit(size_t layer, size_t rows) {
  Layer& target = find_layer(layer);
  for (const Head& head : target.heads) {
    if (head.rows() <= rows) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("limit: layer {} holds {} rows per head, more than {}", layer,
                            head.rows(), rows));
  }
  if (rows == 0) throw Error(ErrorCode::kInvalidArgument, "limit: a layer must hold a row");
  target.limit = rows;
}

KvCache KvCache::first_rows(size_t rows) const {
  KvCache copy(layers_.size(), kv_heads_, key_dim_, value_dim_, type_);
  copy.next_position = rows;
  for (size_t l = 0; l < layers_.size(); ++l) {
    copy.layers_[l].limit = layers_[l].limit;
    for (const Head& head : layers_[l].heads) {
      if (head.first > 0 || head.positions.size() < rows) {
        throw Error(
            ErrorCode::kInvalidArgument,
            fmt::format("first_rows: a head of layer {} does not hold its first {} rows", l, rows));
      }
      copy.layers_[l].heads.push_back(first_rows(head, rows));
    }
    copy.refresh_views(copy.layers_[l]);
  }
  return copy;
}

KvCache::Head KvCache::first_rows(const Head& head, size_t rows) const {
  const KvLayout layout = this->layout();
  const size_t all = head.positions.size();
  Head copy;
  copy.positions.assign(head.positions.begin(),
                        head.positions.begin() + static_cast<ptrdiff_t>(rows));
  if (!head.bias.empty()) {
    copy.bias.assign(head.bias.begin(), head.bias.begin() + static_cast<ptrdiff_t>(rows));
  }
  copy.data.resize(layout.bytes(rows));
  const size_t blocks = layout.packed_blocks(rows);
  std::copy_n(head.data.data(), blocks * layout.block_bytes(), copy.data.data());
  AlignedVector<float> keys(kBlockRows * key_dim_), values(kBlockRows * value_dim_);
  for (size_t begin = blocks * kBlockRows; begin < rows; begin += kBlockRows) {
    const size_t count = std::min(kBlockRows, rows - begin);
    const size_t block = begin / kBlockRows;
    const std::byte* from = head.data.data() + layout.block_offset(block, all);
    std::byte* to = copy.data.data() + layout.block_offset(block, rows);
    if (block >= layout.packed_blocks(all)) {
      std::copy_n(from, count * layout.row_bytes(), to);
      continue;
    }
    const Matrix<float> k(keys.data(), kBlockRows, key_dim_);
    const Matrix<float> v(values.data(), kBlockRows, value_dim_);
    unpack_block(layout, from, k, v);
    for (size_t r = 0; r < count; ++r, to += layout.row_bytes()) {
      (void)pack_row(layout, k.row(r), v.row(r), to);  // they were halves before
    }
  }
  return copy;
}

void KvCache::drop_row(Head& head) const {
  if (++head.first < kBlockRows) return;
  const KvLayout layout = this->layout();
  const bool packed = layout.packed_blocks(head.positions.size()) > 0;
  const size_t bytes = packed ? layout.block_bytes() : kBlockRows * layout.row_bytes();
  head.data.erase(head.data.begin(), head.data.begin() + static_cast<ptrdiff_t>(bytes));
  head.positions.erase(head.positions.begin(), head.positions.begin() + kBlockRows);
  if (!head.bias.empty()) head.bias.erase(head.bias.begin(), head.bias.begin() + kBlockRows);
  head.first = 0;
}

void KvCache::read(size_t layer, size_t head, Matrix<float> keys, Matrix<float> values) const {
  if (layer >= layers_.size() || head >= layers_[layer].heads.size() ||
      keys.rows != layers_[layer].heads[head].rows() || values.rows != keys.rows ||
      keys.cols != key_dim_ || values.cols != value_dim_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("read: no head {} of layer {} with keys [{}, {}] and values [{}, {}]",
                            head, layer, keys.rows, keys.cols, values.rows, values.cols));
  }
  const KvLayout layout = this->layout();
  const Head& from = layers_[layer].heads[head];
  if (layers_[layer].open) {
    unpack_rows(layout, from.data.data(), keys, values);
    return;
  }
  const size_t rows = from.positions.size();
  const size_t blocks = layout.packed_blocks(rows);
  AlignedVector<float> some_keys(kBlockRows * key_dim_), some_values(kBlockRows * value_dim_);
  for (size_t begin = 0; begin < rows; begin += kBlockRows) {
    const size_t count = std::min(kBlockRows, rows - begin);
    const Matrix<float> k(some_keys.data(), count, key_dim_);
    const Matrix<float> v(some_values.data(), count, value_dim_);
    const size_t block = begin / kBlockRows;
    const std::byte* data = from.data.data() + layout.block_offset(block, rows);
    if (block < blocks) {
      unpack_block(layout, data, k, v);
    } else {
      unpack_rows(layout, data, k, v);
    }
    for (size_t r = std::max(begin, from.first) - begin; r < count; ++r) {
      std::copy_n(k.row(r), key_dim_, keys.row(begin + r - from.first));
      std::copy_n(v.row(r), value_dim_, values.row(begin + r - from.first));
    }
  }
}

void KvCache::save(ByteWriter& out) const {
  out.number<uint64_t>(next_position);
  for (const Layer& layer : layers_) {
    out.number<uint64_t>(layer.limit);
    out.number<uint64_t>(layer.heads.size());
    for (const Head& head : layer.heads) {
      out.number<uint64_t>(head.first);
      out.array(std::span(head.positions));
      out.array(std::span(head.data));
    }
  }
}

void KvCache::load(ByteReader& in) {
  const KvLayout layout = this->layout();
  const auto next = in.number<uint64_t>();
  in.expect(next <= std::numeric_limits<int32_t>::max(), "it counts too many tokens");
  next_position = next;
  for (Layer& layer : layers_) {
    layer.limit = in.number<uint64_t>();
    const auto heads = in.number<uint64_t>();
    // A cache per query head has more heads than the model has KV heads; 1024 bounds the ratio.
    in.expect(heads % kv_heads_ == 0 && heads / kv_heads_ <= 1024,
              "a layer has an impossible number of heads");
    layer.heads.assign(heads, {});
    for (Head& head : layer.heads) {
      const auto first = in.number<uint64_t>();
      in.array(head.positions);
      in.array(head.data);
      in.expect(first < kBlockRows && first <= head.positions.size() &&
                    head.data.size() == layout.bytes(head.positions.size()),
                "the rows of a head do not fit their number");
      in.expect(layer.limit == 0 || head.positions.size() - first <= layer.limit,
                "a head holds more rows than its window");
      head.first = first;
      int32_t before = -1;
      for (const int32_t position : std::span(head.positions).subspan(first)) {
        in.expect(position > before, "the positions of a head do not ascend from 0 on");
        before = position;
      }
    }
    refresh_views(layer);
  }
}

void KvCache::save_biases(ByteWriter& out) const {
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) out.array(std::span(head.bias));
  }
}

void KvCache::load_biases(ByteReader& in) {
  for (Layer& layer : layers_) {
    for (Head& head : layer.heads) {
      in.array(head.bias);
      in.expect(head.bias.empty() || head.bias.size() == head.positions.size(),
                "the biases of a head do not fit its rows");
      in.expect(std::ranges::all_of(head.bias, [](float x) { return std::isfinite(x); }),
                "a bias is not finite");
    }
    refresh_views(layer);
  }
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
  if (layer.open) return;
  for (const Head& head : layer.heads) {
    layer.views.push_back({.data = head.data.data(),
                           .count = head.rows(),
                           .first = head.first,
                           .type = type_,
                           .bias = head.bias.empty() ? nullptr : head.bias.data()});
  }
}

KvLayout KvCache::layout() const { return {type_, key_dim_, value_dim_}; }

size_t KvCache::kept_bytes() const {
  const KvLayout layout = this->layout();
  size_t bytes = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) {
      const bool packed = !layer.open && layout.packed_blocks(head.positions.size()) > 0;
      const size_t row_bytes = packed ? layout.block_bytes() / kBlockRows : layout.row_bytes();
      bytes += head.data.size() - head.first * row_bytes;
      if (!head.bias.empty()) bytes += head.rows() * sizeof(float);
    }
  }
  return bytes;
}

size_t KvCache::allocated_bytes() const {
  size_t bytes = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) {
      bytes += head.data.capacity() + head.positions.capacity() * sizeof(int32_t) +
               head.bias.capacity() * sizeof(float);
    }
  }
  return bytes;
}

}  // namespace restkv
