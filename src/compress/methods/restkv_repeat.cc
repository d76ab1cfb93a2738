#include <vector>

#include "compress/method.h"
#include "compress/peak_errors.h"
#include "compress/repeat_scores.h"
#include "compress/row_products.h"

namespace restkv {
namespace {

/// What an error is divided by.
enum class Relative : size_t { kNone, kInput };

/// The largest change of the layer's output without a position, while the model repeats the
/// position's chunk.
void watch(const BlockObservation& block, const CompressionOptions& options,
           Matrix<float> watched) {
  std::vector<float> factors;
  if (static_cast<Relative>(own_word(options, "relative")) == Relative::kInput) {
    factors = inverse_norms(block.inputs);
  }
  add_peak_errors(block, factors, watched);
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  return repeat_scores(layer, options, options.group_reduce, [](size_t, std::span<float>) {});
}

}  // namespace

Method restkv_repeat_method() {
  Method method;
  method.name = "restkv-repeat";
  method.summary =
      "change of the layer's output without a token, while the model repeats the prompt";
  method.paper = "restkv: the indicator of ReST-KV with the queries of KVzip";
  method.options = {"sinks", "pooling", "kernel", "group_reduce", "per_query_head"};
  method.own_options = repeat_options();
  method.own_options.push_back({"relative", "none|input", "what errors are divided by", "input"});
  method.defaults.method = method.name;
  method.defaults.group_reduce = GroupReduce::kMax;
  method.defaults.allocation = "global";
  method.defaults.pooling = Pooling::kNone;
  method.defaults.ada_floor = 0;
  method.defaults.ada_normalize = false;
  method.check = check_repeat;
  method.watched_tokens = [](const CompressionOptions&) { return WatchedTokens::kRepeat; };
  method.watches_outputs = [](const CompressionOptions&) { return true; };
  method.needs_output = [](const CompressionOptions&) { return true; };
  method.watch = watch;
  method.score = score;
  return method;
}

}  // namespace restkv
