#include "restkv/query_statistics.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/threads.h"
#include "compress/row_products.h"
#include "restkv/error.h"

namespace restkv {

QueryStatistics::QueryStatistics(size_t query_heads, size_t head_dim)
    : heads_(query_heads),
      dim_(head_dim),
      means_(query_heads * head_dim, 0.0),
      scatters_(query_heads * head_dim * head_dim, 0.0) {}

void QueryStatistics::add(Heads<const float> queries) {
  if (queries.heads != heads_ || queries.dim != dim_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("query statistics are for {} heads of size {}, the queries have {} of "
                            "size {}",
                            heads_, dim_, queries.heads, queries.dim));
  }
  if (queries.rows == 0) return;
  parallel_for(heads_, [&](size_t h, size_t) {
    if (queries.rows == 1) {  // its own mean, without deviations
      merge(h, 1, std::span<const float>(queries.row(h, 0), dim_), {});
      return;
    }
    // Uses deviations from the block's mean: sums of plain products would cancel where means are
    // large. Blocks are merged as in Chan, Golub and LeVeque (1983).
    std::vector<double> block_mean(dim_, 0.0);
    for (size_t i = 0; i < queries.rows; ++i) {
      for (size_t c = 0; c < dim_; ++c) block_mean[c] += double{queries.row(h, i)[c]};
    }
    for (double& x : block_mean) x /= static_cast<double>(queries.rows);
    std::vector<float> deviations(queries.rows * dim_);
    for (size_t i = 0; i < queries.rows; ++i) {
      for (size_t c = 0; c < dim_; ++c) {
        deviations[i * dim_ + c] = static_cast<float>(double{queries.row(h, i)[c]} - block_mean[c]);
      }
    }
    std::vector<float> gram(dim_ * dim_);
    gram_matrix({deviations.data(), queries.rows, dim_}, {gram.data(), dim_, dim_});
    merge(h, queries.rows, std::span<const double>(block_mean), gram);
  });
  count_ += queries.rows;
}

template <class T>
void QueryStatistics::merge(size_t head, size_t rows, std::span<const T> block_mean,
                            std::span<const float> scatter) {
  double* mean = &means_[head * dim_];
  double* sums = &scatters_[head * dim_ * dim_];
  const auto before = static_cast<double>(count_);
  const auto added = static_cast<double>(rows);
  const double weight = before * added / (before + added);
  for (size_t a = 0; a < dim_; ++a) {
    const double moved = (double{block_mean[a]} - mean[a]) * weight;
    for (size_t b = 0; b < dim_; ++b) {
      const float own = scatter.empty() ? 0.0F : scatter[a * dim_ + b];
      sums[a * dim_ + b] += double{own} + moved * (double{block_mean[b]} - mean[b]);
    }
  }
  for (size_t c = 0; c < dim_; ++c) {
    mean[c] += (double{block_mean[c]} - mean[c]) * added / (before + added);
  }
}

std::vector<float> QueryStatistics::mean(size_t head) const {
  const double* mean = &means_[head * dim_];
  return {mean, mean + dim_};
}

std::vector<float> QueryStatistics::covariance(size_t head) const {
  std::vector<float> result(dim_ * dim_, 0.0F);
  if (count_ == 0) return result;
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<float>(scatters_[head * dim_ * dim_ + i] / static_cast<double>(count_));
  }
  return result;
}

void QueryStatistics::save(ByteWriter& out) const {
  out.number<uint64_t>(count_);
  out.array(std::span(means_));
  out.array(std::span(scatters_));
}

void QueryStatistics::load(ByteReader& in) {
  count_ = in.number<uint64_t>();
  in.array(means_);
  in.array(scatters_);
  in.expect(means_.size() == heads_ * dim_ && scatters_.size() == heads_ * dim_ * dim_,
            "query statistics do not fit the model");
}

void MeanRotation::rotate(float* x, size_t stride) const {
  const size_t pairs = cosine.size();
  for (size_t i = 0; i < pairs; ++i) {
    float& a = x[(halves ? i : 2 * i) * stride];
    float& b = x[(halves ? i + pairs : 2 * i + 1) * stride];
    const float old = a;
    a = old * cosine[i] - b * sine[i];
    b = old * sine[i] + b * cosine[i];
  }
}

}  // namespace restkv
