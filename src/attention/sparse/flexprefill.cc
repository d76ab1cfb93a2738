// FlexPrefill: each head uses an estimate of its attention that can be trusted, and keeps the
// fewest tiles that reach a share of its mass.

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "attention/softmax_scale.h"
#include "attention/sparse/lines.h"
#include "attention/sparse/pattern.h"
#include "base/threads.h"

namespace restkv {
namespace {

/// out [d] = mean of the rows.
void mean_row(Matrix<const float> rows, float* out) {
  std::fill_n(out, rows.cols, 0.0F);
  for (size_t r = 0; r < rows.rows; ++r) {
    for (size_t c = 0; c < rows.cols; ++c) out[c] += rows.row(r)[c];
  }
  for (size_t c = 0; c < rows.cols; ++c) out[c] /= static_cast<float>(rows.rows);
}

float dot(const float* a, const float* b, size_t n) {
  float lanes[8] = {};  // independent sums, so that the compiler may vectorise
  size_t c = 0;
  for (; c + 8 <= n; c += 8) {
    for (size_t l = 0; l < 8; ++l) lanes[l] += a[c + l] * b[c + l];
  }
  float sum = std::accumulate(lanes, lanes + 8, 0.0F);
  for (; c < n; ++c) sum += a[c] * b[c];
  return sum;
}

/// Square root of the Jensen-Shannon divergence of two distributions, in nats; `p` need not sum
/// to 1.
double js_distance(const std::vector<float>& p, const std::vector<float>& q) {
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  double divergence = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double a = p[i] / total;
    const double b = q[i];
    const double middle = (a + b) / 2;
    if (a > 0) divergence += a * std::log(a / middle) / 2;
    if (b > 0) divergence += b * std::log(b / middle) / 2;
  }
  return std::sqrt(std::max(divergence, 0.0));
}

class FlexPrefill : public LayerPattern {
 public:
  FlexPrefill(const SparseOptions& options, const SparseLayer& layer)
      : gamma_(options.gamma),
        least_(tiles_of(static_cast<size_t>(options.min_tokens))),
        softcap_(layer.attention.softcap),
        scale_(softmax_scale(layer.attention.scale, layer.keys.dim)),
        dim_(layer.keys.dim),
        tiles_(tiles_of(layer.keys.rows)),
        pooled_keys_(layer.keys.heads * tiles_ * dim_),
        lines_(layer.last_queries.heads) {
    const size_t rows = layer.keys.rows;
    parallel_for(layer.keys.heads * tiles_, [&](size_t task, size_t) {
      const size_t begin = task % tiles_ * kMaskTile;
      mean_row(layer.keys.head(task / tiles_).slice(begin, std::min(kMaskTile, rows - begin)),
               pooled_keys_.data() + task * dim_);
    });
    const LineVotes votes = line_votes(layer);
    parallel_for(lines_.size(), [&](size_t h, size_t) {
      const size_t kv_head = h * layer.keys.heads / lines_.size();
      const std::vector<float> estimate = pooled(layer.last_queries.head(h), kv_head, tiles_);
      if (js_distance(votes.columns[h], estimate) < options.tau) return;
      lines_[h] = {fewest_reaching(votes.columns[h], gamma_, least_ / 2),
                   fewest_reaching(votes.diagonals[h], gamma_, least_ / 2)};
    });
  }

  void mark(Heads<const float> queries, Heads<const float> keys, size_t first,
            TileMarks marks) override {
    parallel_for(queries.heads * marks.rows, [&](size_t task, size_t) {
      const size_t h = task / marks.rows;
      const size_t b = task % marks.rows;
      const size_t position = first + b * kMaskTile;
      if (lines_[h]) {
        lines_[h]->mark(position, marks.dim, marks.row(h, b));
        return;
      }
      const size_t begin = b * kMaskTile;
      const size_t rows = std::min(kMaskTile, queries.rows - begin);
      const std::vector<float> estimate =
          pooled(queries.head(h).slice(begin, rows), h * keys.heads / queries.heads,
                 tiles_of(position + rows));
      mark_fewest(estimate, gamma_, least_, marks.row(h, b));
    });
  }

 private:
  /// Attention of the mean query to the means of the first `tiles` tiles of keys.
  [[nodiscard]] std::vector<float> pooled(Matrix<const float> queries, size_t kv_head,
                                          size_t tiles) const {
    std::vector<float> query(dim_);
    mean_row(queries, query.data());
    std::vector<float> weights(tiles);
    for (size_t t = 0; t < tiles; ++t) {
      const float* key = pooled_keys_.data() + (kv_head * tiles_ + t) * dim_;
      weights[t] = dot(query.data(), key, dim_) * scale_;
      if (softcap_ > 0) weights[t] = softcap_ * std::tanh(weights[t] / softcap_);
    }
    softmax_weights(weights);
    return weights;
  }

  double gamma_;
  size_t least_;
  float softcap_, scale_;
  size_t dim_, tiles_;
  std::vector<float> pooled_keys_;           // [kv_heads, tiles, d]
  std::vector<std::optional<Lines>> lines_;  // per query head; none: tiles by the pooled estimate
};

}  // namespace

SparsePattern flexprefill_pattern() {
  return {.name = "flexprefill",
          .summary =
              "per head tiles by an estimate from pooled queries and keys where it agrees "
              "with the last queries' attention, else columns and diagonals; the fewest "
              "that reach a share",
          .paper = "FlexPrefill, ICLR 2025, arXiv 2502.20766",
          .options = {"gamma", "tau", "min_tokens"},
          .looks_ahead = true,
          .check =
              [](const SparseOptions& options) {
                check_share("gamma", options.gamma);
                check_share("tau", options.tau);
                check_tokens("min_tokens", options.min_tokens);
              },
          .make = [](const SparseOptions& options,
                     const SparseLayer& layer) -> std::unique_ptr<LayerPattern> {
            return std::make_unique<FlexPrefill>(options, layer);
          }};
}

}  // namespace restkv
