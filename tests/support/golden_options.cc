#include "support/golden_options.h"

#include <map>
#include <string>

namespace restkv::testing {
namespace {

const std::map<std::string, std::string> kMethods = {
    {"restkv", "restkv"},           {"restkv_before", "restkv"},
    {"restkv_ablation", "restkv"},  {"snapkv", "snapkv"},
    {"streamingllm", "streaming-llm"}};
const std::map<std::string, Pooling> kPoolings = {{"adaptive", Pooling::kAdaptive},
                                                  {"avgpool", Pooling::kAverage},
                                                  {"maxpool", Pooling::kMax},
                                                  {"none", Pooling::kNone}};
const std::map<std::string, Temporal> kTemporal = {{"ema", Temporal::kEma},
                                                   {"mean", Temporal::kMean},
                                                   {"inv-ema", Temporal::kInverseEma},
                                                   {"none", Temporal::kNewest}};
const std::map<std::string, GroupReduce> kReduce = {
    {"mean", GroupReduce::kMean}, {"max", GroupReduce::kMax}, {"sum", GroupReduce::kSum}};

}  // namespace

std::optional<CompressionOptions> golden_options(const GoldenCase& golden, std::string& reason) {
  const std::string method = golden.method();
  if (!kMethods.contains(method)) {
    reason = "method " + method + " is not there yet";
    return std::nullopt;
  }
  const auto& params = golden.params();
  if (params.value("use_pyramid", false)) {
    reason = "pyramid allocation is not there yet";
    return std::nullopt;
  }
  CompressionOptions options = default_options(kMethods.at(method));
  options.budget = params.at("capacity");
  options.window = params.at("window");
  options.per_query_head = params.at("granularity") == "query_head";
  if (method == "streamingllm") {
    options.sinks = options.budget - options.window;
  } else if (method == "snapkv") {
    options.kernel = params.at("kernel");
    options.pooling = kPoolings.at(params.at("pooling"));
    options.group_reduce = kReduce.at(params.value("agg", "mean"));
  } else if (method == "restkv_ablation") {
    options.drift_scale = params.at("scale");
    if (params.at("indicator") == "reconstruction") {
      options.temporal = kTemporal.at(params.at("ts"));
      options.pooling = kPoolings.at(params.at("ss"));
    } else {
      options.indicator =
          params.at("indicator") == "attn" ? Indicator::kAttention : Indicator::kAttentionValue;
      options.pooling = Pooling::kAverage;  // whatever `ss` says
    }
  } else {
    options.kernel = params.at("kernel");
    options.pooling = kPoolings.at(params.at("pooling"));
    options.order = params.at("metric_mode") == "before" ? ReconstructionOrder::kBefore
                                                         : ReconstructionOrder::kAfter;
    options.use_wo = params.at("use_wo");
    options.normalize = params.at("use_norm");
    options.temporal = params.at("use_ema") ? Temporal::kEma : Temporal::kMean;
    options.alpha = params.at("alpha");
    options.tau = params.at("tau");
    options.drift_scale = params.at("scale");
  }
  return options;
}

}  // namespace restkv::testing
