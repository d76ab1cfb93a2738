#include <fmt/format.h>

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

/// The first `sinks` tokens and the most recent budget - sinks.
Selection select(const LayerObservation& layer, const CompressionOptions& options,
                 SelectionTrace*) {
  std::vector<int32_t> keep(static_cast<size_t>(options.budget));
  const auto recent = keep.begin() + options.sinks;
  std::iota(keep.begin(), recent, 0);
  std::iota(recent, keep.end(),
            static_cast<int32_t>(layer.keys.rows) - (options.budget - options.sinks));
  const size_t heads = options.per_query_head ? layer.queries.heads : layer.keys.heads;
  return {std::vector<std::vector<int32_t>>(heads, keep)};
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
  method.select = select;
  return method;
}

}  // namespace restkv
