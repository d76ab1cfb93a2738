#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace restkv {

/// Thins out a stretch of cache entries, in a pattern that moves by one entry from layer to layer.
/// Of every `period` entries from `begin` on, `rungs` times, a layer keeps `width` entries `step`
/// apart. Entries before and after the stretch are kept.
struct LadderCut {
  size_t begin = 0;
  size_t period = 0;
  size_t width = 0;
  size_t rungs = 0;
  size_t step = 1;
  size_t offsets = 1;  ///< Layer i starts at offset i % offsets of each period.

  /// The entries that a layer keeps, in cache order.
  [[nodiscard]] std::vector<int32_t> apply(size_t layer, const std::vector<int32_t>& entries) const;
};

/// Plan of the cuts of LaCache (arXiv 2507.14204), identical to the authors' code. All layers are
/// cut together and always hold equal numbers of entries. A cursor moves from the sinks to the end
/// of the cache and starts over, so that old entries are thinned repeatedly and generation has no
/// limit.
class LadderPlanner {
 public:
  struct Shape {
    size_t layers = 1;
    size_t size = 0;  ///< Entries that a layer's cache may hold; at least sinks + layers + a rung.
    size_t sinks = 128;  ///< First entries, which are always kept.
    size_t span = 1;     ///< Layers that keep the same entry; less than `layers`.
    size_t overlap = 0;  ///< Entries that neighbouring rungs share; less than `span`.
    size_t cursor = 0;   ///< Its place after earlier cuts of this cache; 0: no cuts yet.
  };

  /// Throws `Error` (kInvalidArgument) naming the value and the remedy.
  explicit LadderPlanner(const Shape& shape);

  /// Returns the cuts after entries were appended, given the number of entries per layer. They must
  /// be applied in order to every layer. There are none while the cache is not full, one, or two if
  /// the cursor starts over.
  std::vector<LadderCut> compact(size_t length);

  [[nodiscard]] size_t cursor() const { return cursor_; }
  /// Entries that a layer may hold; the authors' code raises it slightly at the first cut.
  [[nodiscard]] size_t size() const { return size_; }

 private:
  size_t layers_, size_, sinks_;
  size_t before_;  ///< Entries of a rung before a cut,
  size_t after_;   ///< and after it.
  size_t cursor_;
  bool cut_;
};

}  // namespace restkv
