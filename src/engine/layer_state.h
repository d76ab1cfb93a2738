#pragma once

#include <cstddef>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

class ByteReader;
class ByteWriter;

/// A number for each row of a layer and query head: [query_heads, rows]. Heads of a cache may hold
/// different numbers of rows; all end at the last column, as in `LayerKv`.
class RowValues {
 public:
  /// `initial`: the number of a new row.
  explicit RowValues(float initial = 0.0F) : initial_(initial) {}

  [[nodiscard]] Matrix<float> all() { return {values_.data(), heads_, rows_, capacity_}; }
  /// Keeps the numbers of the first `rows` rows.
  void resize(size_t heads, size_t rows);
  /// Keeps the numbers of the selected rows, if there are any.
  void keep(const Selection& kept);
  [[nodiscard]] size_t allocated_bytes() const { return values_.capacity() * sizeof(float); }

  void save(ByteWriter& out) const;
  /// Expects numbers of `least` to `most` rows, or none.
  void load(ByteReader& in, size_t heads, size_t least, size_t most);

 private:
  AlignedVector<float> values_;
  size_t heads_ = 0, rows_ = 0, capacity_ = 0;
  float initial_;
};

/// The numbers of `LayerObservation::watched` before anything is watched.
RowValues nothing_watched();

/// State of a layer besides keys and values: inputs of methods in this and later compressions.
struct LayerState {
  RowValues sums;  ///< Attention that rows have received, if a request needs it.
  /// `LayerObservation::watched`, one per request that needs it.
  std::vector<RowValues> watched;
  std::vector<QueryStatistics> statistics;  ///< One per request that needs it.
  MethodState method_state;

  /// The last queries, oldest first: [query_heads, rows, d].
  [[nodiscard]] Heads<float> queries() { return all().slice_rows(begin_, end_ - begin_); }
  /// Makes room for `added` queries behind the last `kept` ones and returns that room.
  Heads<float> make_room(size_t heads, size_t dim, size_t kept, size_t added);
  void forget_queries() { begin_ = end_ = 0; }
  /// Keeps the numbers of the selected rows.
  void keep(const Selection& kept);
  [[nodiscard]] size_t allocated_bytes() const;

  /// For snapshots. `load` expects a layer of `rows` rows in a file of format `version`. It throws
  /// `Error` (kInput) on content that does not fit these or the model.
  void save(ByteWriter& out) const;
  void load(ByteReader& in, const ModelConfig& config, size_t rows, uint32_t version);
  /// The same for what was watched.
  void save_watched(ByteWriter& out) const;
  void load_watched(ByteReader& in, const ModelConfig& config, size_t rows);

 private:
  [[nodiscard]] Heads<float> all() { return {queries_.data(), heads_, capacity_, dim_}; }

  AlignedVector<float> queries_;
  size_t heads_ = 0, capacity_ = 0, dim_ = 0;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace restkv
