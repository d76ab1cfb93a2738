#include <cmath>
#include <string_view>
#include <vector>

#include "compress/method.h"
#include "compress/peak_attention.h"
#include "compress/repeat_scores.h"
#include "compress/row_products.h"

namespace restkv {
namespace {

constexpr std::string_view kPlus = "kvzip-plus";

/// The largest attention that a repeating query pays each position of its chunk. With `kvzip-plus`
/// it is divided by the norm of what the layer read for that query.
void watch(const BlockObservation& block, const CompressionOptions& options,
           Matrix<float> watched) {
  std::vector<float> factors;
  if (options.method == kPlus) factors = inverse_norms(block.inputs);
  add_peak_attention(block, static_cast<size_t>(options.sinks), factors, watched);
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const size_t group = layer.queries.heads / layer.keys.heads;
  return repeat_scores(
      layer, options, GroupReduce::kMax, [&](size_t head, std::span<float> weights) {
        if (options.method != kPlus) return;
        std::vector<float> squares(weights.size());  // ||R v||^2, which is ||W_h v||^2
        projected_squares(layer.values.head(head / group),
                          layer.output->head(layer.first_query_head + head), squares);
        for (size_t n = 0; n < weights.size(); ++n) weights[n] *= std::sqrt(squares[n]);
      });
}

}  // namespace

Method kvzip_method() {
  Method method;
  method.name = "kvzip";
  method.summary = "attention that the prompt gets while the model repeats it";
  method.paper =
      "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction, arXiv 2505.23416";
  method.options = {"sinks", "pooling", "kernel", "per_query_head"};
  method.own_options = repeat_options();
  method.defaults.method = method.name;
  method.defaults.allocation = "global";
  method.defaults.pooling = Pooling::kNone;
  method.defaults.ada_floor = 0;
  method.defaults.ada_normalize = false;
  method.paper_defaults = with_authors_repeat(method.defaults);
  method.check = check_repeat;
  method.watched_tokens = [](const CompressionOptions&) { return WatchedTokens::kRepeat; };
  // Tokens that see nothing but these columns have their denominators from the attention.
  method.watches_outputs = repeats_narrowly;
  method.watch = watch;
  method.score = score;
  return method;
}

Method kvzip_plus_method() {
  Method method = kvzip_method();
  method.name = kPlus;
  method.summary = "the same, weighed by how much the value changes the layer's output";
  method.paper = "KVzipPress (kvzip_plus_normalization) of NVIDIA kvpress; KVzap, arXiv 2601.07891";
  method.defaults.method = method.paper_defaults->method = method.name;
  method.needs_output = [](const CompressionOptions&) { return true; };
  return method;
}

}  // namespace restkv
