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
  method.select = [](const LayerObservation& layer, const CompressionOptions& options,
                     SelectionTrace*) { return keep_all(layer, options); };
  return method;
}

}  // namespace restkv
