// Sampled: the exact attention of a few queries of each block predicts that of the others.

#include <memory>
#include <vector>

#include "attention/sparse/pattern.h"
#include "attention/sparse/sampled_attention.h"
#include "base/threads.h"
#include "fmt/format.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

class Sampled : public LayerPattern {
 public:
  Sampled(const SparseOptions& options, const SparseLayer& layer)
      : samples_(static_cast<size_t>(options.samples)),
        threshold_(options.threshold),
        attention_(layer.attention) {}

  void mark(Heads<const float> queries, Heads<const float> keys, size_t first,
            TileMarks marks) override {
    scores_.resize(queries.heads * marks.rows * marks.dim);
    const Heads<float> scores(scores_.data(), queries.heads, marks.rows, marks.dim);
    sampled_attention(queries, keys, first, samples_, attention_, scores);
    parallel_for(marks.heads * marks.rows, [&](size_t task, size_t) {
      const size_t h = task / marks.rows;
      const size_t b = task % marks.rows;
      mark_fewest({scores.row(h, b), scores.dim}, threshold_, 0, marks.row(h, b));
    });
  }

 private:
  size_t samples_;
  double threshold_;
  AttentionOptions attention_;
  AlignedVector<float> scores_;
};

}  // namespace

SparsePattern sampled_pattern() {
  return {.name = "sampled",
          .summary =
              "per block of queries the fewest tiles that hold a share of the exact attention of "
              "some of its queries",
          .paper = "after SampleAttention, arXiv 2406.15486",
          .options = {"samples", "threshold"},
          .check =
              [](const SparseOptions& options) {
                check_share("threshold", options.threshold);
                if (options.samples >= 1 && options.samples <= static_cast<int>(kMaskTile)) return;
                throw Error(ErrorCode::kInvalidArgument,
                            fmt::format("samples is {}; expected 1 to {} queries of each {}",
                                        options.samples, kMaskTile, kMaskTile));
              },
          .make = [](const SparseOptions& options,
                     const SparseLayer& layer) -> std::unique_ptr<LayerPattern> {
            return std::make_unique<Sampled>(options, layer);
          }};
}

}  // namespace restkv
