#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  if (options.sinks < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("sinks is {}; it must be 0 or more (4 is usual)", options.sinks));
  }
  if (options.budget <= options.sinks) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("budget {} leaves no room for recent tokens beside {} sinks; raise the "
                            "budget or lower the sinks",
                            options.budget, options.sinks));
  }
}

/// Sinks score highest; later tokens score higher than earlier ones.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  LayerScores scores(cache_heads(layer, options), layer.keys.rows);
  for (size_t h = 0; h < scores.heads; ++h) {
    const auto row = scores.rows().row_span(h);
    std::iota(row.begin(), row.end(), 0.0F);
    std::fill_n(row.begin(), std::min(row.size(), static_cast<size_t>(options.sinks)),
                std::numeric_limits<float>::infinity());
  }
  return scores;
}

}  // namespace

Method streaming_llm_method() {
  Method method;
  method.name = "streaming-llm";
  method.summary = "attention sinks and the most recent tokens";
  method.paper = "Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453";
  method.options = {"sinks", "per_query_head"};
  method.defaults.method = method.name;
  method.check = check;
  method.score_kind = ScoreKind::kRank;
  method.score = score;
  return method;
}

}  // namespace restkv
