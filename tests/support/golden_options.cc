#include "support/golden_options.h"

#include <map>
#include <string>

namespace restkv::testing {
namespace {

const std::map<std::string, std::string> kMethods = {{"restkv", "restkv"},
                                                     {"restkv_before", "restkv"},
                                                     {"restkv_ablation", "restkv"},
                                                     {"snapkv", "snapkv"},
                                                     {"streamingllm", "streaming-llm"},
                                                     {"pyramidkv", "snapkv"},
                                                     {"adakv", "snapkv"},
                                                     {"h2o", "h2o"},
                                                     {"l2norm", "knorm"}};
const std::map<std::string, Pooling> kPoolings = {{"adaptive", Pooling::kAdaptive},
                                                  {"avgpool", Pooling::kAverage},
                                                  {"maxpool", Pooling::kMax},
                                                  {"none", Pooling::kNone}};
const std::map<std::string, std::string> kTemporal = {
    {"ema", "ema"}, {"mean", "mean"}, {"inv-ema", "inverse-ema"}, {"none", "newest"}};
const std::map<std::string, GroupReduce> kReduce = {
    {"mean", GroupReduce::kMean}, {"max", GroupReduce::kMax}, {"sum", GroupReduce::kSum}};

/// The options of a kvpress press (a scorer, or a wrapper around one) without its budget, which is
/// a share of the prompt. None if it is unknown.
std::optional<CompressionOptions> press_options(const Json& press) {
  const auto name = press.at("press").get<std::string>();
  const auto& args = press.at("args");
  if (name == "AdaKVPress" || name == "CriticalKVPress" || name == "CriticalAdaKVPress") {
    auto options = press_options(args.at("press"));
    if (!options) return std::nullopt;
    if (name != "CriticalKVPress") {
      options->allocation = "ada";
      options->ada_variant = AdaVariant::kKvpress;
      options->ada_floor = args.at("alpha_safeguard").get<double>();
      options->ada_normalize = false;
    }
    if (name != "AdaKVPress") {
      options->critical = true;
      options->critical_ratio = args.value("first_stage_ratio", 0.5);
      options->critical_epsilon = args.value("epsilon", 1e-4);
    }
    return options;
  }
  CompressionOptions options;
  if (name == "SnapKVPress" || name == "PyramidKVPress") {
    options = default_options("snapkv");
    options.window = args.at("window_size").get<int>();
    options.kernel = args.value("kernel_size", 5);
    if (name == "PyramidKVPress") {
      options.allocation = "pyramid";
      options.pyramid_variant = PyramidVariant::kKvpress;
      options.pyramid_beta = args.at("beta").get<int>();
    }
  } else if (name == "KnormPress") {
    options = default_options("knorm");
  } else if (name == "StreamingLLMPress") {
    options = default_options("streaming-llm");
    options.sinks = args.at("n_sink").get<int>();
  } else {
    return std::nullopt;
  }
  return options;
}

double compression_ratio(const Json& press) {
  const auto& args = press.at("args");
  return args.contains("press") ? compression_ratio(args.at("press"))
                                : args.at("compression_ratio").get<double>();
}

}  // namespace

std::optional<CompressionOptions> golden_options(const GoldenCase& golden, std::string& reason) {
  const std::string method = golden.method();
  if (golden.params().contains("press")) {
    auto options = press_options(golden.params());
    if (!options) {
      reason = "unknown press " + golden.params().at("press").get<std::string>();
      return std::nullopt;
    }
    options->budget = kvpress_budget(golden.shape("k").at(1), compression_ratio(golden.params()));
    return options;
  }
  if (!kMethods.contains(method)) {
    reason = "unknown method " + method;
    return std::nullopt;
  }
  const auto& params = golden.params();
  CompressionOptions options = paper_options(kMethods.at(method));
  options.budget = params.at("capacity").get<int>();
  options.per_query_head = params.at("granularity") == "query_head";
  if (method == "l2norm") {
    options.own["skip_layers"] =
        static_cast<int>(params.at("skip_layers").size());  // layers 0, 1, ...
    return options;
  }
  options.window = params.at("window").get<int>();
  if (method == "h2o") {
    options.own["acausal"] = params.value("impl", "restkv") == "restkv";
    options.group_reduce = kReduce.at(params.value("agg", "mean"));
  } else if (method == "streamingllm") {
    options.sinks = options.budget - options.window;
  } else if (kMethods.at(method) == "snapkv") {
    if (method == "pyramidkv" || params.value("pyram_mode", false)) {
      options.allocation = method == "adakv" ? "ada-pyramid" : "pyramid";
      options.pyramid_variant = PyramidVariant::kAuthors;
    } else if (method == "adakv") {
      options.allocation = "ada";
    }
    if (method == "adakv") {
      options.ada_variant = AdaVariant::kAuthors;
      options.ada_floor = params.at("floor").get<double>();
      options.ada_normalize = params.at("normalize").get<bool>();
    }
    options.kernel = params.at("kernel").get<int>();
    options.pooling = kPoolings.at(params.at("pooling").text());
    options.group_reduce = kReduce.at(params.value("agg", "mean"));
  } else if (method == "restkv_ablation") {
    options.drift_scale = params.at("scale").get<double>();
    if (params.at("indicator") == "reconstruction") {
      options.own["temporal"] = kTemporal.at(params.at("ts").text());
      options.pooling = kPoolings.at(params.at("ss").text());
    } else {
      options.own["indicator"] = params.at("indicator") == "attn" ? "attention" : "attention-value";
      options.pooling = Pooling::kAverage;  // independent of `ss`
    }
  } else {
    options.kernel = params.at("kernel").get<int>();
    options.pooling = kPoolings.at(params.at("pooling").text());
    options.own["order"] = params.at("metric_mode") == "before" ? "before" : "after";
    options.own["use_wo"] = params.at("use_wo").get<bool>();
    options.own["normalize"] = params.at("use_norm").get<bool>();
    options.own["temporal"] = params.at("use_ema").get<bool>() ? "ema" : "mean";
    options.own["alpha"] = params.at("alpha").get<double>();
    options.own["tau"] = params.at("tau").get<double>();
    options.drift_scale = params.at("scale").get<double>();
    if (params.value("use_pyramid", false)) {
      options.allocation = "pyramid";
      options.pyramid_variant = PyramidVariant::kRestkv;
    }
  }
  return options;
}

}  // namespace restkv::testing
