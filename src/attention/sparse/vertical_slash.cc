// Vertical-slash: the attention of the last queries selects columns and diagonals for a whole head.

#include <memory>
#include <vector>

#include "attention/sparse/lines.h"
#include "attention/sparse/pattern.h"

namespace restkv {
namespace {

class VerticalSlash : public LayerPattern {
 public:
  VerticalSlash(const SparseOptions& options, const SparseLayer& layer) {
    const LineVotes votes = line_votes(layer);
    for (size_t h = 0; h < votes.columns.size(); ++h) {
      lines_.push_back({largest(votes.columns[h], tiles_of(static_cast<size_t>(options.vertical))),
                        largest(votes.diagonals[h], tiles_of(static_cast<size_t>(options.slash)))});
    }
  }

  void mark(Heads<const float> queries, Heads<const float> /*keys*/, size_t first,
            TileMarks marks) override {
    for (size_t h = 0; h < queries.heads; ++h) {
      for (size_t b = 0; b < marks.rows; ++b) {
        lines_[h].mark(first + b * kMaskTile, marks.dim, marks.row(h, b));
      }
    }
  }

 private:
  std::vector<Lines> lines_;  // one per query head
};

}  // namespace

SparsePattern vertical_slash_pattern() {
  return {.name = "vertical-slash",
          .summary = "per head the columns and diagonals that the last 64 queries look at most",
          .paper = "MInference, NeurIPS 2024, arXiv 2407.02490",
          .options = {"vertical", "slash"},
          .looks_ahead = true,
          .check =
              [](const SparseOptions& options) {
                check_tokens("vertical", options.vertical);
                check_tokens("slash", options.slash);
              },
          .make = [](const SparseOptions& options,
                     const SparseLayer& layer) -> std::unique_ptr<LayerPattern> {
            return std::make_unique<VerticalSlash>(options, layer);
          }};
}

}  // namespace restkv
