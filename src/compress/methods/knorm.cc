#include <fmt/format.h>

#include <cmath>

#include "base/threads.h"
#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  if (options.budget < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("budget is {}; it must be 1 or more", options.budget));
  }
  if (const int skipped = own_whole(options, "skip_layers"); skipped < 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("skip_layers is {}; it must be 0 or more (2 is the authors' value)", skipped));
  }
}

/// Number of first layers that are kept whole.
size_t skipped_layers(const CompressionOptions& options) {
  return static_cast<size_t>(own_whole(options, "skip_layers"));
}

void check_shape(const CompressionOptions& options, const CacheShape& shape) {
  if (skipped_layers(options) < shape.layers) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("skip_layers is {}: all of {} would be kept whole; lower it (2 is the "
                          "authors' value) or choose method full",
                          skipped_layers(options), describe_layers(shape)));
}

/// -||k||_2: keys with a small norm tend to attract attention.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const bool whole = layer.layer < skipped_layers(options);
  LayerScores scores(cache_heads(layer, options), whole ? 0 : layer.keys.rows);
  const size_t repeat = scores.heads / layer.keys.heads;
  parallel_for(scores.heads, [&](size_t h, size_t) {
    float* row = scores.rows().row(h);
    for (size_t n = 0; n < scores.candidates; ++n) {
      const float* key = layer.keys.row(h / repeat, n);
      float square = 0.0F;
      for (size_t k = 0; k < layer.keys.dim; ++k) square += key[k] * key[k];
      row[n] = -std::sqrt(square);
    }
  });
  return scores;
}

}  // namespace

Method knorm_method() {
  Method method;
  method.name = "knorm";
  method.summary = "keys with the smallest norms";
  method.paper =
      "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression, "
      "arXiv 2406.11430";
  method.options = {"per_query_head"};
  method.own_options = {{"skip_layers", "N", "first layers that are kept whole", 0}};
  method.keeps_layers = [](const CompressionOptions& o) { return skipped_layers(o) > 0; };
  method.defaults.method = method.name;
  method.defaults.ada_normalize = false;
  method.score_kind = ScoreKind::kSigned;
  method.check = check;
  method.check_shape = check_shape;
  method.score = score;
  return method;
}

}  // namespace restkv
