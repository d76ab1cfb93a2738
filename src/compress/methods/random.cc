#include <cstdint>

#include "base/threads.h"
#include "compress/method.h"

namespace restkv {
namespace {

/// The finaliser of SplitMix64: a bijection of 64-bit numbers that passes tests of randomness when
/// fed with a counter (Steele, Lea and Flood, 2014).
uint64_t scramble(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  LayerScores scores(cache_heads(layer, options), before_window(layer, options));
  const auto seed = static_cast<uint64_t>(own_whole(options, "random_seed"));
  parallel_for(scores.heads, [&](size_t h, size_t) {
    const uint64_t stream =
        scramble(scramble(scramble(seed) + layer.layer) + layer.first_query_head + h);
    float* row = scores.rows().row(h);
    for (size_t n = 0; n < scores.candidates; ++n) {
      row[n] = static_cast<float>(scramble(stream + n) >> 40) * 0x1p-24F;
    }
  });
  return scores;
}

}  // namespace

Method random_method() {
  Method method;
  method.name = "random";
  method.summary = "random tokens and the window: the baseline of all methods";
  method.paper = "control experiment";
  method.options = {"window", "per_query_head"};
  method.own_options = {{"random_seed", "N", "start of the random numbers", 0}};
  method.defaults.method = method.name;
  method.check = check_window;
  method.score = score;
  return method;
}

}  // namespace restkv
