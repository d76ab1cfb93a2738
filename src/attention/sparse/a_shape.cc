// A-shape: the first tokens and a band along the diagonal, the same for all heads.

#include <algorithm>
#include <memory>

#include "attention/sparse/pattern.h"

namespace restkv {
namespace {

class AShape : public LayerPattern {
 public:
  explicit AShape(const SparseOptions& options)
      : sinks_(tiles_of(static_cast<size_t>(options.sinks))),
        local_(static_cast<size_t>(options.local)) {}

  void mark(Heads<const float> queries, Heads<const float> /*keys*/, size_t first,
            TileMarks marks) override {
    for (size_t h = 0; h < queries.heads; ++h) {
      for (size_t b = 0; b < marks.rows; ++b) {
        uint8_t* row = marks.row(h, b);
        std::fill_n(row, std::min(sinks_, marks.dim), uint8_t{1});
        // The block's first query looks back farthest.
        const size_t position = first + b * kMaskTile;
        const size_t begin = (position - std::min(position, local_)) / kMaskTile;
        std::fill(row + begin, row + marks.dim, uint8_t{1});
      }
    }
  }

 private:
  size_t sinks_, local_;
};

}  // namespace

SparsePattern a_shape_pattern() {
  return {.name = "a-shape",
          .summary = "the first tokens and the latest ones, the same for all heads",
          .paper =
              "StreamingLLM, ICLR 2024, arXiv 2309.17453; MInference, NeurIPS 2024, arXiv "
              "2407.02490",
          .options = {"sinks", "local"},
          .check =
              [](const SparseOptions& options) {
                check_tokens("sinks", options.sinks);
                check_tokens("local", options.local);
              },
          .make = [](const SparseOptions& options, const SparseLayer&)
              -> std::unique_ptr<LayerPattern> { return std::make_unique<AShape>(options); }};
}

}  // namespace restkv
