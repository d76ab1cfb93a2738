#include "compress/cake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "compress/allocation.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options, const Method& method) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  if (options.window < 2) {
    refuse(
        fmt::format("window is {} with method {}; the allocation cake needs the variance over at "
                    "least 2 rows (32 is the authors' value)",
                    options.window, options.method));
  }
  for (const double tau : {options.cake_tau1, options.cake_tau2}) {
    if (!(tau > 0.0)) {
      refuse(
          fmt::format("cake_tau1 is {} and cake_tau2 {}; they must be positive numbers (1 is "
                      "usual)",
                      options.cake_tau1, options.cake_tau2));
    }
  }
  if (method.score_kind == ScoreKind::kRank) {
    refuse(
        fmt::format("allocation cake cuts a layer again after later ones, which method {} does not "
                    "expect; choose the allocation uniform, pyramid or profile",
                    options.method));
  }
  if (options.critical) {
    refuse(
        fmt::format("critical weighs the scores of method {} by the budget of each head, which the "
                    "allocation cake knows after the last layer only; leave critical out or choose "
                    "another allocation",
                    options.method));
  }
}

/// The budgets of the layers so far, which share out that of all layers.
std::vector<std::vector<size_t>> cascade(std::span<const LayerCandidates> so_far, size_t all_layers,
                                         const CompressionOptions&) {
  // A layer that is kept whole has no share, and takes none of the others'.
  std::vector<double> preferences;
  size_t share = 0;
  for (const LayerCandidates& layer : so_far) {
    if (layer.share == 0) continue;
    preferences.push_back(layer.preference);
    share = std::max(share, layer.share);
  }
  const size_t cut_layers = all_layers - (so_far.size() - preferences.size());
  size_t past = 0;  // candidates of a layer that has not been cut yet: the last one
  for (const auto& head : so_far.back().scores) past = std::max(past, head.size());
  std::vector<size_t> budgets;
  if (!preferences.empty()) budgets = cake_budgets(preferences, share * cut_layers, past);
  std::vector<std::vector<size_t>> counts;
  auto budget = budgets.begin();
  for (const LayerCandidates& layer : so_far) {
    auto& of_layer = counts.emplace_back();
    const size_t most = layer.share == 0 ? 0 : *budget++;
    for (const auto& head : layer.scores) of_layer.push_back(std::min(most, head.size()));
  }
  return counts;
}

}  // namespace

Allocation cake_allocation() {
  Allocation allocation;
  allocation.name = "cake";
  allocation.over_layers = true;
  allocation.summary = "layers whose attention is wide and changes from query to query get more";
  allocation.paper =
      "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences, arXiv 2503.12491";
  allocation.options = {"cake_tau1", "cake_tau2"};
  allocation.check = check;
  allocation.observed_queries = [](const CompressionOptions& options) {
    return static_cast<size_t>(std::max(options.window, 0));
  };
  allocation.prefer = [](std::span<const LayerObservation> heads,
                         const CompressionOptions& options) {
    return cake_preference(heads, static_cast<size_t>(options.window), options.cake_tau1,
                           options.cake_tau2);
  };
  allocation.reallocate = cascade;
  return allocation;
}

}  // namespace restkv
