#include "compress/method.h"

namespace restkv {

Method full_method() {
  Method method;
  method.name = "full";
  method.summary = "keeps every token; the budget is ignored";
  method.paper = "no compression";
  method.options = {};
  method.defaults.method = method.name;
  method.check = [](const CompressionOptions&) {};
  method.allocates = false;
  method.score_kind = ScoreKind::kRank;
  method.score = [](const LayerObservation& layer, const CompressionOptions& options,
                    SelectionTrace*) { return LayerScores(cache_heads(layer, options), 0); };
  return method;
}

}  // namespace restkv
