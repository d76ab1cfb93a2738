#include <fmt/format.h>

#include <algorithm>

#include "compress/allocation.h"
#include "compress/top_positions.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options, const Method& method) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  if (method.score_kind == ScoreKind::kRank) {
    refuse(
        fmt::format("allocation global compares scores between layers, but method {} only orders "
                    "the positions of each head; choose the allocation uniform, pyramid or profile",
                    options.method));
  }
  if (options.critical) {
    refuse(
        fmt::format("critical weighs the scores of method {} by the budget of each head, which the "
                    "allocation global knows after the last layer only; leave critical out or "
                    "choose another allocation",
                    options.method));
  }
}

/// The best of all candidates so far, as many as all layers together may keep in the end: a
/// candidate that is not among them will not be when there are more. Among equal ones the first
/// layer, head and position win.
std::vector<std::vector<size_t>> best_of_all(std::span<const LayerCandidates> so_far,
                                             size_t all_layers, const CompressionOptions&) {
  std::vector<float> pool;
  std::vector<size_t> ends;  // of each head of each layer
  size_t places = 0;
  size_t share = 0;  // of an average layer; a layer that is kept whole has none
  for (const LayerCandidates& layer : so_far) {
    for (const std::vector<float>& head : layer.scores) {
      pool.insert(pool.end(), head.begin(), head.end());
      ends.push_back(pool.size());
    }
    places += layer.share * layer.scores.size();
    share = std::max(share, layer.share);
  }
  places += (all_layers - so_far.size()) * share * so_far.back().scores.size();

  TopPositions top;
  const auto best = top.find(pool, std::min(places, pool.size()));
  std::vector<std::vector<size_t>> counts;
  auto next = best.begin();
  auto end = ends.begin();
  for (const LayerCandidates& layer : so_far) {
    for (size_t& count : counts.emplace_back(layer.scores.size())) {
      const auto begin = next;
      while (next != best.end() && static_cast<size_t>(*next) < *end) ++next;
      count = static_cast<size_t>(next - begin);
      ++end;
    }
  }
  return counts;
}

}  // namespace

Allocation global_allocation() {
  Allocation allocation;
  allocation.name = "global";
  allocation.over_layers = true;
  allocation.summary = "all heads of all layers compete for one budget with their scores";
  allocation.check = check;
  allocation.reallocate = best_of_all;
  return allocation;
}

}  // namespace restkv
