#include "bench/work.h"

#include <algorithm>

#include "model/weights.h"

namespace restkv::bench {
namespace {

double flops(const Linear& linear) {
  return 2.0 * static_cast<double>(linear.rows()) * static_cast<double>(linear.cols());
}

size_t bytes(const Linear& linear) {
  size_t total = 0;
  for (const Weight& part : linear.parts()) total += part.rows * part.row_bytes();
  return total;
}

/// Multiplications and additions of the feed-forward network for one token.
double feed_forward_flops(const LayerWeights& layer, const ExpertsConfig& experts) {
  double total = flops(layer.gate_up) + flops(layer.down);
  if (layer.experts) {
    total += flops(layer.experts->router) +
             static_cast<double>(experts.used) *
                 (flops(layer.experts->gate_up.front()) + flops(layer.experts->down.front()));
  }
  return total;
}

/// Pairs of a query and a key it sees, over queries [first, end).
double visible_pairs(size_t first, size_t end, size_t window) {
  const auto up_to = [&](size_t n) {
    const auto full = static_cast<double>(window > 0 ? std::min(n, window) : n);
    return full * (full + 1) / 2 + (static_cast<double>(n) - full) * full;
  };
  return up_to(end) - up_to(first);
}

}  // namespace

double prefill_flops(const Model& model, size_t tokens, const CompressionOptions& options,
                     double density) {
  const ModelConfig& c = model.config();
  double total = flops(model.weights().lm_head);
  for (size_t l = 0; l < c.layers; ++l) {
    const LayerWeights& layer = model.weights().layers[l];
    const bool all_rows = l + 1 < c.layers || (c.windows[l] == 0 && needs_attention_sums(options));
    const size_t outputs = all_rows ? tokens : 1;
    total += flops(layer.qkv) * static_cast<double>(tokens);
    total +=
        (flops(layer.output) + feed_forward_flops(layer, c.experts)) * static_cast<double>(outputs);
    total += 2.0 * static_cast<double>(c.query_heads * (c.key_dim + c.value_dim)) *
             visible_pairs(tokens - outputs, tokens, c.windows[l]) *
             (c.windows[l] == 0 ? density : 1);
  }
  return total;
}

double repeat_flops(const Model& model, size_t tokens, std::span<const RepeatFeed> feeds) {
  const ModelConfig& c = model.config();
  size_t last = 0;  // the last layer that feeds pass, without outputs
  for (size_t l = 0; l < c.layers; ++l) {
    if (c.windows[l] == 0) last = l;
  }
  double total = 0;
  for (const RepeatFeed& feed : feeds) {
    const auto fed = static_cast<double>(feed.tokens.size());
    const auto repeated = static_cast<double>(feed.end - feed.begin);
    for (size_t l = 0; l <= last; ++l) {
      const LayerWeights& layer = model.weights().layers[l];
      total += flops(layer.qkv) * fed;
      const bool narrow = feed.narrow && c.windows[l] == 0;
      if (l < last || narrow) {
        total += (flops(layer.output) + feed_forward_flops(layer, c.experts)) * fed;
        total += 2.0 * static_cast<double>(c.query_heads * (c.key_dim + c.value_dim)) *
                 (narrow ? fed * (static_cast<double>(kMaskTile) + repeated) + fed * (fed + 1) / 2
                         : visible_pairs(tokens, tokens + feed.tokens.size(), c.windows[l]));
      }
      if (c.windows[l] > 0) continue;
      // Denominators over the chunk and the fed tokens, which a narrow feed has from its attention;
      // then the weights of the chunk.
      total += 2.0 * static_cast<double>(c.query_heads * c.key_dim) * fed *
               (narrow ? repeated : 2 * repeated + fed / 2);
    }
  }
  return total;
}

size_t weight_bytes(const Model& model) {
  size_t total = bytes(model.weights().lm_head) + model.weights().token_embedding.row_bytes();
  for (const LayerWeights& layer : model.weights().layers) {
    for_each_linear(layer, [&](const Linear& matrix) { total += bytes(matrix); });
    if (!layer.experts) continue;
    total += model.config().experts.used *
             (bytes(layer.experts->gate_up.front()) + bytes(layer.experts->down.front()));
  }
  return total;
}

}  // namespace restkv::bench
