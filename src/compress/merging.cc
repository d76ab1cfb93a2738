#include "compress/merging.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/threads.h"
#include "compress/row_products.h"
#include "restkv/aligned.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

constexpr float kLeastNorm = 1e-12F;
/// Evicted rows of a task.
constexpr size_t kBlock = 64;

/// The kept keys of a head, scaled to length 1: [kept, d].
AlignedVector<float> unit_keys(Matrix<const float> keys, const std::vector<int32_t>& kept) {
  AlignedVector<float> result(kept.size() * keys.cols);
  for (size_t i = 0; i < kept.size(); ++i) {
    const auto key = keys.slice(static_cast<size_t>(kept[i]), 1);
    float square = 0.0F;
    square_norms(key, {&square, 1});
    const float length = std::max(std::sqrt(square), kLeastNorm);
    for (size_t c = 0; c < keys.cols; ++c) result[i * keys.cols + c] = key.data[c] / length;
  }
  return result;
}

/// Rows 0 to n - 1 that are not kept.
std::vector<Merge> evicted_rows(const std::vector<int32_t>& kept, size_t n) {
  std::vector<Merge> merges;
  auto next = kept.begin();
  for (int32_t row = 0; row < static_cast<int32_t>(n); ++row) {
    if (next != kept.end() && *next == row) {
      ++next;
    } else {
      merges.push_back({.evicted = row});
    }
  }
  return merges;
}

/// Finds the kept row whose key is most similar to that of an evicted one.
void find_target(Matrix<const float> keys, Matrix<const float> unit,
                 const std::vector<int32_t>& kept, std::span<float> products, Merge& merge) {
  const auto key = keys.slice(static_cast<size_t>(merge.evicted), 1);
  float square = 0.0F;
  square_norms(key, {&square, 1});
  dot_products(unit, key.row_span(0), products);
  const auto best = std::max_element(products.begin(), products.end());
  merge.target = kept[static_cast<size_t>(best - products.begin())];
  merge.similarity = *best / std::max(std::sqrt(square), kLeastNorm);
}

/// The value that a share of the numbers lies below, by linear interpolation.
float quantile(std::vector<float> numbers, double share) {
  std::ranges::sort(numbers);
  const double place = share * static_cast<double>(numbers.size() - 1);
  const auto below = static_cast<size_t>(place);
  const float low = numbers[below];
  const float high = numbers[std::min(below + 1, numbers.size() - 1)];
  if (std::isinf(low)) return low;
  return low + static_cast<float>(place - static_cast<double>(below)) * (high - low);
}

/// Gives up merges of keys that are not similar enough.
void keep_similar(std::vector<Merge>& merges, const CompressionOptions& options) {
  const auto threshold = static_cast<float>(options.merge_threshold);
  constexpr float kFailed = -std::numeric_limits<float>::infinity();
  float least = kFailed;
  if (options.merge_fraction < 1.0 && !merges.empty()) {
    std::vector<float> similarities;
    for (const Merge& merge : merges) {
      similarities.push_back(merge.similarity >= threshold ? merge.similarity : kFailed);
    }
    least = quantile(std::move(similarities), 1.0 - options.merge_fraction);
  }
  for (Merge& merge : merges) {
    if (!(merge.similarity >= threshold && merge.similarity >= least)) merge.target = -1;
  }
}

double norm(std::span<const float> x) {
  double square = 0.0;
  for (const float v : x) square += double{v} * double{v};
  return std::sqrt(square);
}

}  // namespace

void check_merging(const CompressionOptions& options) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  if (!(options.merge_threshold >= -1.0 && options.merge_threshold <= 1.0)) {
    refuse(
        fmt::format("merge_threshold is {}; it is a cosine, between -1 and 1 (0 is the "
                    "authors' value)",
                    options.merge_threshold));
  }
  if (!(options.merge_fraction > 0.0 && options.merge_fraction <= 1.0)) {
    refuse(
        fmt::format("merge_fraction is {}; the share of evicted tokens that are merged must be "
                    "above 0 and at most 1",
                    options.merge_fraction));
  }
  if (reallocates(options)) {
    refuse(
        fmt::format("merge folds values once, but the allocation {} cuts layers again; use "
                    "another allocation",
                    options.allocation));
  }
  if (options.per_query_head) {
    refuse(
        "merge changes the values of a KV head, which per_query_head gives to several selections; "
        "use one of both");
  }
}

std::vector<std::vector<Merge>> find_merges(Heads<const float> keys, const Selection& selection,
                                            const CompressionOptions& options) {
  std::vector<std::vector<Merge>> merges(keys.heads);
  for (size_t h = 0; h < keys.heads; ++h) {
    const std::vector<int32_t>& kept = selection.keep[h];
    if (kept.empty()) continue;  // nobody takes anything
    std::vector<Merge>& of_head = merges[h];
    of_head = evicted_rows(kept, keys.rows);
    const AlignedVector<float> storage = unit_keys(keys.head(h), kept);
    const Matrix<const float> unit(storage.data(), kept.size(), keys.dim);
    parallel_for((of_head.size() + kBlock - 1) / kBlock, [&](size_t task, size_t) {
      std::vector<float> products(kept.size());
      for (size_t i = task * kBlock; i < std::min(of_head.size(), (task + 1) * kBlock); ++i) {
        find_target(keys.head(h), unit, kept, products, of_head[i]);
      }
    });
    keep_similar(of_head, options);
  }
  return merges;
}

void merge_values(const std::vector<std::vector<Merge>>& merges, Heads<float> values) {
  constexpr double kEpsilon = 1e-6;
  parallel_for(values.heads, [&](size_t h, size_t) {
    // Values are read as they were before any merge.
    struct Sum {
      std::vector<double> value;
      double weight = 1.0;
      double norm = 0.0;
    };
    std::map<int32_t, Sum> sums;
    for (const Merge& merge : merges[h]) {
      if (merge.target < 0) continue;
      const auto target = values.head(h).row_span(static_cast<size_t>(merge.target));
      Sum& sum = sums[merge.target];
      if (sum.value.empty()) {
        sum.value.assign(target.begin(), target.end());
        sum.norm = norm(target);
      }
      const auto evicted = values.head(h).row_span(static_cast<size_t>(merge.evicted));
      const double length = norm(evicted);
      const double weight =
          std::max(0.0, double{merge.similarity}) * length / (length + sum.norm + kEpsilon);
      for (size_t c = 0; c < evicted.size(); ++c) sum.value[c] += weight * double{evicted[c]};
      sum.weight += weight;
    }
    for (const auto& [row, sum] : sums) {
      float* out = values.row(h, static_cast<size_t>(row));
      for (size_t c = 0; c < values.dim; ++c)
        out[c] = static_cast<float>(sum.value[c] / sum.weight);
    }
  });
}

void merge_evicted(Heads<const float> keys, Heads<float> values, const Selection& selection,
                   const CompressionOptions& options) {
  check_merging(options);
  if (selection.keep.size() != keys.heads || values.heads != keys.heads ||
      values.rows != keys.rows) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("a selection of {} heads and values of {} heads and {} rows do not fit "
                    "keys of {} heads and {} rows",
                    selection.keep.size(), values.heads, values.rows, keys.heads, keys.rows));
  }
  for (const std::vector<int32_t>& keep : selection.keep) {
    if (!std::ranges::is_sorted(keep) || (!keep.empty() && keep.front() < 0) ||
        (!keep.empty() && static_cast<size_t>(keep.back()) >= keys.rows)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("a selection must be ascending positions below {}", keys.rows));
    }
  }
  merge_values(find_merges(keys, selection, options), values);
}

}  // namespace restkv
