#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "compress/allocation.h"
#include "compress/finite.h"
#include "compress/method.h"
#include "compress/top_positions.h"
#include "compress/window_scores.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_window(options);
  const int length = own_whole(options, "chunk_length");
  if (length < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("chunk_length is {}; give the positions per chunk, or 0 for no chunks",
                            length));
  }
  if (length > 0 && options.allocation != "uniform") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("chunk_length is {}; every chunk keeps its part of one budget, so "
                            "allocation must be uniform, not {}",
                            length, options.allocation));
  }
}

/// Candidates that each chunk keeps, where all keep equal parts of a budget for n > budget
/// positions. The window is protected and counts in the chunks that it lies in. What it takes
/// beyond their parts comes off the chunks before.
std::vector<size_t> chunk_counts(size_t n, size_t window, size_t budget, size_t length) {
  const size_t chunks = (n + length - 1) / length;
  std::vector<double> shares(chunks);
  for (size_t c = 0; c < chunks; ++c) {
    const size_t size = std::min(length, n - c * length);
    shares[c] = static_cast<double>(size * budget) / static_cast<double>(n);
  }
  std::vector<size_t> counts = apportion(shares, budget);
  size_t taken = 0;
  for (size_t c = chunks; c-- > 0;) {
    const size_t end = std::min(n, (c + 1) * length);
    const size_t protected_begin = std::max(c * length, n - window);
    taken += end - std::min(end, protected_begin);
    const size_t given = std::min(counts[c], taken);
    counts[c] -= given;
    taken -= given;
  }
  return counts;
}

/// Replaces the scores of one head by 1 for the best of every chunk, and 0 for others.
void select_by_chunk(std::span<float> row, std::span<const size_t> counts, size_t length) {
  TopPositions top;
  for (size_t c = 0; c < counts.size(); ++c) {
    const size_t begin = std::min(row.size(), c * length);
    const auto chunk = row.subspan(begin, std::min(length, row.size() - begin));
    const auto best = top.find(chunk, counts[c]);
    std::fill(chunk.begin(), chunk.end(), 0.0F);
    for (const int32_t position : best) chunk[static_cast<size_t>(position)] = 1.0F;
  }
}

/// Mean attention of the window's rows. A row that sees more tokens gives each of them less, which
/// its weight makes up for.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const auto window = static_cast<size_t>(options.window);
  const size_t past = before_window(layer, options);
  std::vector<float> coefficients(window, 1.0F / static_cast<float>(window));
  if (own_switch(options, "weigh_rows")) {
    for (size_t r = 0; r < window; ++r) coefficients[r] *= static_cast<float>(past + r);
  }
  CompressionOptions plain = options;
  plain.pooling = Pooling::kNone;
  plain.group_reduce = GroupReduce::kMean;
  plain.reduce_before_pooling = true;
  const auto finish = [](const LayerObservation& l, const CompressionOptions&,
                         std::span<const float>, Matrix<float>) {
    require_finite_values(l, 0);  // which it does not look at otherwise
  };
  LayerScores scores =
      score_by_window(layer, plain, {.coefficients = coefficients, .finish = finish}, trace);

  const auto length = static_cast<size_t>(own_whole(options, "chunk_length"));
  const auto budget = static_cast<size_t>(options.budget);
  if (length == 0 || layer.keys.rows <= budget) return scores;
  const std::vector<size_t> counts = chunk_counts(layer.keys.rows, window, budget, length);
  for (size_t h = 0; h < scores.heads; ++h) {
    select_by_chunk(scores.rows().row_span(h), counts, length);
  }
  return scores;
}

}  // namespace

Method finch_method() {
  Method method;
  method.name = "finch";
  method.summary = "attention of the question's rows, each weighed by the tokens that it sees";
  method.paper =
      "FINCH: Prompt-guided Key-Value Cache Compression for Large Language Models, arXiv "
      "2408.00167";
  method.options = {"window", "per_query_head"};
  method.own_options = {{"chunk_length", "N", "positions per chunk (finch: 0 for no chunks)", 0},
                        {"weigh_rows", "true|false",
                         "weigh each row of the window by the tokens that it sees", true}};
  method.defaults.method = method.name;
  method.observed_queries = observe_window;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
