// XAttention: sums of logits along the antidiagonals of a tile estimate its attention.

#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "attention/sparse/antidiagonal.h"
#include "attention/sparse/pattern.h"
#include "base/threads.h"
#include "fmt/format.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

class XAttention : public LayerPattern {
 public:
  XAttention(const SparseOptions& options, const SparseLayer& layer)
      : stride_(static_cast<size_t>(options.stride)),
        threshold_(options.threshold),
        attention_(layer.attention) {}

  void mark(Heads<const float> queries, Heads<const float> keys, size_t first,
            TileMarks marks) override {
    const size_t query_groups = (queries.rows + stride_ - 1) / stride_;
    const size_t key_groups = (first + queries.rows + stride_ - 1) / stride_;
    logits_.resize(queries.heads * query_groups * key_groups);
    const Heads<float> logits(logits_.data(), queries.heads, query_groups, key_groups);
    antidiagonal_logits(queries, keys, first, stride_, attention_, logits);
    const size_t per_block = kMaskTile / stride_;
    parallel_for(queries.heads * marks.rows, [&](size_t task, size_t) {
      const size_t h = task / marks.rows;
      const size_t b = task % marks.rows;
      // Sums the softmax weights of the groups of queries, then the weights of each tile.
      std::vector<float> weights(marks.dim * per_block, 0.0F);
      for (size_t g = b * per_block; g < std::min((b + 1) * per_block, query_groups); ++g) {
        const size_t last = std::min(first + (g + 1) * stride_, first + queries.rows) - 1;
        const std::span<float> row(logits.row(h, g), last / stride_ + 1);
        softmax_weights(row);
        for (size_t j = 0; j < row.size(); ++j) weights[j] += row[j];
      }
      std::vector<float> scores(marks.dim);
      for (size_t tile = 0; tile < marks.dim; ++tile) {
        const float* part = weights.data() + tile * per_block;
        scores[tile] = std::accumulate(part, part + per_block, 0.0F);
      }
      mark_fewest(scores, threshold_, 0, marks.row(h, b));
    });
  }

 private:
  size_t stride_;
  double threshold_;
  AttentionOptions attention_;
  AlignedVector<float> logits_;
};

}  // namespace

SparsePattern xattention_pattern() {
  return {.name = "xattention",
          .summary =
              "per block of queries the fewest tiles whose attention, estimated along "
              "antidiagonals, reaches a share",
          .paper = "XAttention, ICML 2025, arXiv 2503.16428",
          .options = {"stride", "threshold"},
          .check =
              [](const SparseOptions& options) {
                check_share("threshold", options.threshold);
                if (options.stride == 8 || options.stride == 16 || options.stride == 32) return;
                throw Error(ErrorCode::kInvalidArgument,
                            fmt::format("stride is {}; expected 8, 16 or 32", options.stride));
              },
          .make = [](const SparseOptions& options,
                     const SparseLayer& layer) -> std::unique_ptr<LayerPattern> {
            return std::make_unique<XAttention>(options, layer);
          }};
}

}  // namespace restkv
