#include "engine/layer_state.h"

#include <algorithm>
#include <limits>

#include "base/bytes.h"

namespace restkv {

void RowValues::resize(size_t heads, size_t rows) {
  const size_t before = heads == heads_ ? std::min(rows, rows_) : 0;
  if (heads != heads_ || rows > capacity_) {
    // Grows by half, so that single tokens rarely move the others.
    const size_t capacity = std::max(rows, before + before / 2);
    AlignedVector<float> grown(heads * capacity);
    for (size_t h = 0; h < heads && before > 0; ++h) {
      std::copy_n(values_.data() + h * capacity_, before, grown.data() + h * capacity);
    }
    values_ = std::move(grown);
    heads_ = heads;
    capacity_ = capacity;
  }
  rows_ = rows;
  for (size_t h = 0; h < heads_; ++h) {
    std::fill_n(values_.data() + h * capacity_ + before, rows - before, initial_);
  }
}

void RowValues::keep(const Selection& kept) {
  if (rows_ == 0) return;
  size_t longest = 0;
  for (const auto& head : kept.keep) longest = std::max(longest, head.size());
  RowValues result(initial_);
  result.resize(heads_, longest);
  const size_t group = heads_ / kept.keep.size();
  for (size_t h = 0; h < heads_; ++h) {
    const std::vector<int32_t>& keep = kept.keep[h / group];
    float* out = result.all().row(h) + (longest - keep.size());
    for (size_t i = 0; i < keep.size(); ++i) out[i] = all().row(h)[static_cast<size_t>(keep[i])];
  }
  *this = std::move(result);
}

void RowValues::save(ByteWriter& out) const {
  out.number<uint64_t>(rows_);
  for (size_t h = 0; h < heads_ && rows_ > 0; ++h) {
    out.array(std::span(values_).subspan(h * capacity_, rows_));
  }
}

void RowValues::load(ByteReader& in, size_t heads, size_t least, size_t most) {
  const auto rows = in.number<uint64_t>();
  in.expect(rows == 0 || (rows >= least && rows <= most), "numbers of rows do not fit the rows");
  *this = RowValues(initial_);
  if (rows == 0) return;
  resize(heads, rows);
  std::vector<float> head;
  for (size_t h = 0; h < heads; ++h) {
    in.array(head);
    in.expect(head.size() == rows, "numbers of rows do not fit the rows");
    std::ranges::copy(head, all().row(h));
  }
}

RowValues nothing_watched() { return RowValues(std::numeric_limits<float>::quiet_NaN()); }

Heads<float> LayerState::make_room(size_t heads, size_t dim, size_t kept, size_t added) {
  kept = std::min(kept, end_ - begin_);
  begin_ = end_ - kept;
  // Twice the room, so that single tokens rarely move the others.
  const size_t capacity = 2 * (kept + added);
  if (heads_ != heads || dim_ != dim || capacity_ < capacity) {
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
  } else if (end_ + added > capacity_) {
    for (size_t h = 0; h < heads && kept > 0; ++h) {
      std::copy_n(all().row(h, begin_), kept * dim, all().row(h, 0));
    }
    begin_ = 0;
    end_ = kept;
  }
  end_ += added;
  return all().slice_rows(end_ - added, added);
}

size_t LayerState::allocated_bytes() const {
  size_t bytes = queries_.capacity() * sizeof(float) + sums.allocated_bytes() +
                 method_state.capacity() * sizeof(uint64_t);
  for (const RowValues& w : watched) bytes += w.allocated_bytes();
  for (const QueryStatistics& s : statistics) {
    bytes += s.heads() * s.head_dim() * (s.head_dim() + 1) * sizeof(double);
  }
  return bytes;
}

void LayerState::keep(const Selection& kept) {
  sums.keep(kept);
  for (RowValues& w : watched) w.keep(kept);
}

void LayerState::save(ByteWriter& out) const {
  const size_t rows = end_ - begin_;
  out.number<uint64_t>(rows);
  for (size_t h = 0; h < heads_ && rows > 0; ++h) {
    out.array(std::span(queries_).subspan((h * capacity_ + begin_) * dim_, rows * dim_));
  }
  sums.save(out);
  out.number<uint64_t>(statistics.size());
  for (const QueryStatistics& s : statistics) s.save(out);
  out.array(std::span<const uint64_t>(method_state));
}

void LayerState::save_watched(ByteWriter& out) const {
  out.number<uint64_t>(watched.size());
  for (const RowValues& w : watched) w.save(out);
}

void LayerState::load(ByteReader& in, const ModelConfig& config, size_t rows, uint32_t version) {
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
  sums.load(in, config.query_heads, rows, rows);
  const auto count = in.number<uint64_t>();
  in.expect(count <= 1, "a layer has more than one set of query statistics");
  statistics.assign(count, QueryStatistics(config.query_heads, config.key_dim));
  for (QueryStatistics& s : statistics) s.load(in);
  if (version == 2) {  // LaCache's cursor, 0 before the first selection
    const auto cursor = in.number<uint64_t>();
    method_state.assign(cursor > 0 ? 1 : 0, cursor);
  } else {
    in.array(method_state);
  }
}

void LayerState::load_watched(ByteReader& in, const ModelConfig& config, size_t rows) {
  const auto methods = in.number<uint64_t>();
  in.expect(methods <= 1, "a layer was watched for more than one method");
  watched.assign(methods, nothing_watched());
  // Single tokens since the last prompt have none.
  for (RowValues& w : watched) w.load(in, config.query_heads, 1, rows);
}

}  // namespace restkv
