#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "compress/critical.h"
#include "compress/finite.h"
#include "compress/layer_scores.h"
#include "compress/method.h"
#include "compress/output_error.h"
#include "compress/top_positions.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

template <class T>
std::string shape(const Heads<T>& x) {
  return fmt::format("[{}, {}, {}]", x.heads, x.rows, x.dim);
}

/// Throws unless the shapes of keys, values and, if used, query heads fit.
void check_cache(const LayerObservation& layer, const CompressionOptions& options) {
  const size_t heads = layer.keys.heads;
  const size_t rows = layer.keys.rows;
  const size_t dim = layer.keys.dim;
  if (heads == 0 || dim == 0) refuse(fmt::format("keys are empty: {}", shape(layer.keys)));
  if (rows > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    refuse(fmt::format("{} positions are more than 32-bit positions can hold", rows));
  }
  if (layer.values.heads != heads || layer.values.rows != rows || layer.values.dim == 0) {
    refuse(fmt::format("values are {} but keys are {}; both must be [kv_heads, n, channels]",
                       shape(layer.values), shape(layer.keys)));
  }
  if (observed_queries(options) == 0 && !needs_attention_sums(options) &&
      watched_tokens(options) == WatchedTokens::kNone && !needs_query_statistics(options) &&
      rotation_offsets(options).empty() && !options.per_query_head &&
      !needs_output_weights(options)) {
    return;
  }
  if (layer.queries.heads == 0 || layer.queries.heads % heads != 0) {
    refuse(
        fmt::format("{} query heads cannot share {} KV heads; the first must be a multiple of "
                    "the second",
                    layer.queries.heads, heads));
  }
}

/// Throws unless the last queries and what belongs to them fit.
void check_queries(const LayerObservation& layer, const CompressionOptions& options,
                   size_t observed) {
  if (layer.queries.dim != layer.keys.dim) {
    refuse(fmt::format("queries are {} but keys are {}; head sizes differ", shape(layer.queries),
                       shape(layer.keys)));
  }
  if (layer.queries.rows < observed) {
    refuse(fmt::format("{} query rows are too few: method {} observes the last {}",
                       layer.queries.rows, options.method, observed));
  }
  if (!layer.sink_logits.empty() && layer.sink_logits.size() != layer.queries.heads) {
    refuse(fmt::format("there are {} sink logits, but queries are {}: there is one for each head",
                       layer.sink_logits.size(), shape(layer.queries)));
  }
  if (layer.lse.data != nullptr &&
      (layer.lse.rows != layer.queries.heads || layer.lse.cols != layer.queries.rows)) {
    refuse(fmt::format("lse are [{}, {}], but queries are {}: there is one for each query",
                       layer.lse.rows, layer.lse.cols, shape(layer.queries)));
  }
  if (layer.outputs.data != nullptr &&
      (layer.outputs.heads != layer.queries.heads || layer.outputs.dim != layer.values.dim ||
       layer.outputs.rows > layer.queries.rows)) {
    refuse(
        fmt::format("outputs are {}, but queries are {} and values {}: they belong to the last "
                    "queries",
                    shape(layer.outputs), shape(layer.queries), shape(layer.values)));
  }
}

/// Throws unless the inputs of the method are given; a prompt that is kept whole needs none.
void check_observation(const LayerObservation& layer, const CompressionOptions& options) {
  if (needs_output_weights(options) &&
      layer.output_weights.cols != layer.queries.heads * layer.values.dim) {
    refuse(fmt::format(
        "critical and tolerance need W_O: pass LayerObservation::output_weights as [width, {}], "
        "not [{}, {}]",
        layer.queries.heads * layer.values.dim, layer.output_weights.rows,
        layer.output_weights.cols));
  }
  const size_t length = layer.keys.rows;
  if (needs_attention_sums(options) &&
      (layer.attention_sums.rows != layer.queries.heads || layer.attention_sums.cols != length)) {
    refuse(fmt::format("method {} needs LayerObservation::attention_sums as [{}, {}], not [{}, {}]",
                       options.method, layer.queries.heads, length, layer.attention_sums.rows,
                       layer.attention_sums.cols));
  }
  if (watched_tokens(options) != WatchedTokens::kNone &&
      (layer.watched.rows != layer.queries.heads || layer.watched.cols != length)) {
    refuse(fmt::format(
        "method {} needs LayerObservation::watched as [{}, {}], not [{}, {}]: pass "
        "it to Method::watch with the blocks that it watches",
        options.method, layer.queries.heads, length, layer.watched.rows, layer.watched.cols));
  }
  if (needs_query_statistics(options)) {
    if (layer.query_statistics == nullptr || layer.future_rotation == nullptr) {
      refuse(fmt::format("method {} needs LayerObservation::query_statistics and future_rotation",
                         options.method));
    }
    if (layer.query_statistics->heads() < layer.first_query_head + layer.queries.heads ||
        layer.query_statistics->head_dim() != layer.keys.dim) {
      refuse(
          fmt::format("query statistics are for {} heads of size {}, the layer has {} of size {}",
                      layer.query_statistics->heads(), layer.query_statistics->head_dim(),
                      layer.queries.heads, layer.keys.dim));
    }
  }
  const Heads<const float>& plain = layer.unrotated_keys;
  if (needs_unrotated_keys(options) &&
      (plain.heads != layer.keys.heads || plain.rows != length || plain.dim != layer.keys.dim)) {
    refuse(fmt::format("method {} needs LayerObservation::unrotated_keys as {}, not {}",
                       options.method, shape(layer.keys), shape(plain)));
  }
  const size_t rotations = rotation_offsets(options).size();
  if (rotations > 0 && layer.rotations.size() != rotations) {
    refuse(fmt::format("method {} needs {} of LayerObservation::rotations, not {}", options.method,
                       rotations, layer.rotations.size()));
  }
  const size_t observed = std::min(observed_queries(options), length);
  if (observed > 0) check_queries(layer, options, observed);
  if (!needs_output_factor(options)) return;
  if (layer.output == nullptr || layer.output->empty()) {
    refuse(
        fmt::format("method {} measures errors after W_O: pass LayerObservation::output, or set "
                    "use_wo to false",
                    options.method));
  }
  if (layer.output->heads() < layer.first_query_head + layer.queries.heads ||
      layer.output->head_dim() != layer.values.dim) {
    refuse(fmt::format("the output factor is for {} heads of size {}, the layer has {} of size {}",
                       layer.output->heads(), layer.output->head_dim(), layer.queries.heads,
                       layer.values.dim));
  }
}

/// Every position, for every cache head.
Selection keep_all(const LayerObservation& layer, const CompressionOptions& options) {
  std::vector<int32_t> every(layer.keys.rows);
  std::iota(every.begin(), every.end(), 0);
  return {std::vector<std::vector<int32_t>>(cache_heads(layer, options), every)};
}

/// Throws if a score is NaN or infinite, because such scores have no order.
void check_scores(const LayerObservation& layer, const LayerScores& scores,
                  const CompressionOptions& options) {
  const size_t repeat = scores.heads / layer.keys.heads;
  parallel_for(scores.heads, [&](size_t h, size_t) {
    if (all_finite(scores.rows().slice(h, 1))) return;
    throw_not_finite(layer, h / repeat, 1, std::min(observed_queries(options), layer.keys.rows));
  });
}

/// Throws unless a method from outside the library has scored what it was asked to.
void check_shape(const LayerObservation& layer, const LayerScores& scores,
                 const CompressionOptions& options) {
  const bool heads = scores.heads == layer.keys.heads ||
                     (options.per_query_head && scores.heads == layer.queries.heads);
  if (heads && scores.candidates <= layer.keys.rows &&
      scores.values.size() == scores.heads * scores.candidates) {
    return;
  }
  refuse(
      fmt::format("method {} returns {} scores for {} heads and {} candidates; the layer has {} "
                  "cache heads and {} tokens",
                  options.method, scores.values.size(), scores.heads, scores.candidates,
                  cache_heads(layer, options), layer.keys.rows));
}

/// The method's scores, for checked options, keys and values.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  if (layer.keys.rows == 0) return {cache_heads(layer, options), 0};
  check_observation(layer, options);
  const Method& method = find_method(options.method);
  LayerScores scores = method.score(layer, options, trace);
  check_shape(layer, scores, options);
  if (method.score_kind != ScoreKind::kRank) check_scores(layer, scores, options);
  return scores;
}

}  // namespace

LayerScores score_tokens(const LayerObservation& layer, const CompressionOptions& options,
                         SelectionTrace* trace) {
  validate(options);
  check_cache(layer, options);
  if (trace != nullptr) *trace = {};
  return score(layer, options, trace);
}

size_t budget_share(size_t tokens, size_t protected_tokens, const CompressionOptions& options) {
  const size_t most = std::min(tokens, static_cast<size_t>(std::max(options.budget, 0)));
  return most - std::min(most, protected_tokens);
}

size_t eligible(std::span<const float> scores, const CompressionOptions& options) {
  const std::optional<double> least = least_score(options);
  if (!least) return scores.size();
  return static_cast<size_t>(
      std::ranges::count_if(scores, [&](float score) { return double{score} >= *least; }));
}

std::vector<size_t> allocate_budget(const LayerObservation& layer, const LayerScores& scores,
                                    const CompressionOptions& options) {
  if (scores.candidates == 0) return std::vector<size_t>(scores.heads, 0);
  const size_t tokens = layer.tokens > 0 ? layer.tokens : layer.keys.rows;
  const size_t share = budget_share(tokens, layer.keys.rows - scores.candidates, options);
  const Allocation& allocation = find_allocation(options.allocation);
  std::vector<size_t> counts;
  if (allocation.reallocate != nullptr) {
    if (layer.layers > 1) {
      refuse(
          fmt::format("allocation {} distributes the budget over all layers, and this is one of "
                      "{}: select with LayerCascade",
                      options.allocation, layer.layers));
    }
    LayerCandidates only{.scores = {}, .share = share};
    for (size_t h = 0; h < scores.heads; ++h) {
      const auto row = scores.rows().row_span(h);
      only.scores.emplace_back(row.begin(), row.end());
    }
    counts = allocation.reallocate({&only, 1}, 1, options).front();
  } else {
    counts = allocation.allocate(layer, scores, share, options);
  }
  for (size_t h = 0; h < counts.size(); ++h) {
    counts[h] = std::min(counts[h], eligible(scores.rows().row_span(h), options));
  }
  return counts;
}

namespace {

/// Positions of the best whole chunks of a row, at most `count`, ascending.
std::vector<int32_t> best_chunks(std::span<const float> row, size_t chunk, size_t count,
                                 TopPositions& top) {
  const auto positions = [](std::span<const int32_t> found) {
    return std::vector<int32_t>(found.begin(), found.end());
  };
  const size_t chunks = count / chunk;
  if (chunks == 0 || count == row.size()) return positions(top.find(row, count));
  std::vector<float> heads;  // the score of every chunk
  for (size_t begin = 0; begin < row.size(); begin += chunk) heads.push_back(row[begin]);
  std::vector<int32_t> best;
  for (const int32_t found : top.find(heads, chunks)) {
    const size_t begin = static_cast<size_t>(found) * chunk;
    for (size_t j = begin; j < std::min(begin + chunk, row.size()); ++j) {
      best.push_back(static_cast<int32_t>(j));
    }
  }
  return best;
}

}  // namespace

Selection select_best(const LayerScores& scores, std::span<const size_t> counts, size_t length) {
  if (counts.size() != scores.heads || scores.candidates > length ||
      std::any_of(counts.begin(), counts.end(),
                  [&](size_t count) { return count > scores.candidates; })) {
    refuse(fmt::format("{} counts do not fit scores of {} heads and {} candidates among {} tokens",
                       counts.size(), scores.heads, scores.candidates, length));
  }
  Selection selection;
  selection.keep.resize(scores.heads);
  const size_t protected_positions = length - scores.candidates;
  std::vector<TopPositions> top(static_cast<size_t>(num_threads()));
  parallel_for(scores.heads, [&](size_t h, size_t thread) {
    const auto row = scores.rows().row_span(h);
    std::vector<int32_t> chunks;
    std::span<const int32_t> best;
    if (scores.chunk > 1) {
      best = chunks = best_chunks(row, scores.chunk, counts[h], top[thread]);
    } else {
      best = top[thread].find(row, counts[h]);
    }
    auto& keep = selection.keep[h];
    keep.resize(best.size() + protected_positions);
    const auto end = std::copy_if(best.begin(), best.end(), keep.begin(), [&](int32_t position) {
      return row[static_cast<size_t>(position)] > -std::numeric_limits<float>::infinity();
    });
    std::iota(end, end + static_cast<ptrdiff_t>(protected_positions),
              static_cast<int32_t>(scores.candidates));
    keep.erase(end + static_cast<ptrdiff_t>(protected_positions), keep.end());
  });
  return selection;
}

namespace {

/// The best of each head by the scores of a layer's parts, under the options' allocation and
/// budget. `critical` weighs the scores, in place.
Selection select_scored(std::span<const LayerObservation> heads, std::span<LayerScores> scores,
                        const CompressionOptions& options) {
  size_t cache_heads_of_layer = 0;
  size_t candidates = 0;
  for (const LayerScores& part : scores) {
    cache_heads_of_layer += part.heads;
    candidates = std::max(candidates, part.candidates);
  }
  // One table of all heads for the allocation. Short heads are padded in front with their lowest
  // score, which never belongs to the best.
  LayerScores all(cache_heads_of_layer, candidates);
  size_t h = 0;
  for (const LayerScores& part : scores) {
    for (size_t i = 0; i < part.heads; ++i, ++h) {
      const auto row = part.rows().row_span(i);
      const auto out = all.rows().row_span(h);
      const auto real = std::copy_backward(row.begin(), row.end(), out.end());
      if (real == out.begin()) continue;
      std::fill(out.begin(), real, row.empty() ? 0.0F : *std::min_element(row.begin(), row.end()));
    }
  }
  LayerObservation longest = heads.front();
  for (const LayerObservation& head : heads) {
    if (head.keys.rows > longest.keys.rows) longest = head;
  }
  const std::vector<size_t> counts = allocate_budget(longest, all, options);

  Selection selection;
  h = 0;
  for (size_t p = 0; p < heads.size(); ++p) {
    std::vector<size_t> own(counts.begin() + static_cast<ptrdiff_t>(h),
                            counts.begin() + static_cast<ptrdiff_t>(h + scores[p].heads));
    for (size_t& count : own) count = std::min(count, scores[p].candidates);
    if (options.critical) {
      apply_critical(heads[p], own, options, scores[p]);
      check_scores(heads[p], scores[p], options);
    }
    Selection part = select_best(scores[p], own, heads[p].keys.rows);
    std::move(part.keep.begin(), part.keep.end(), std::back_inserter(selection.keep));
    h += scores[p].heads;
  }
  return selection;
}

/// The fewest tokens per head, at least what is settled and at most the budget, for which the error
/// of the layer stays within the tolerance. The error falls with the budget but for small steps, so
/// that halving the range finds a budget at which it passes the tolerance.
int chosen_budget(std::span<const LayerObservation> heads, std::span<const LayerScores> scores,
                  const CompressionOptions& options) {
  size_t enough = 0;
  for (const LayerObservation& part : heads) enough = std::max(enough, part.keys.rows);
  enough = std::min(enough, static_cast<size_t>(options.budget));
  const size_t least = std::max(least_chosen(options), heads.front().settled);
  size_t too_few = std::min(least, enough) - 1;
  if (enough - too_few == 1) return static_cast<int>(enough);
  const OutputError error(heads, observe_window(options));
  CompressionOptions tried = options;
  while (enough - too_few > 1) {
    const size_t middle = (enough + too_few) / 2;
    tried.budget = static_cast<int>(middle);
    std::vector<LayerScores> copy(scores.begin(), scores.end());
    const bool is_enough = error.of(select_scored(heads, copy, tried)) <= options.tolerance;
    (is_enough ? enough : too_few) = middle;
  }
  return static_cast<int>(enough);
}

Selection select_chosen(std::span<const LayerObservation> heads, std::span<LayerScores> scores,
                        CompressionOptions options) {
  if (chooses_budget(options)) options.budget = chosen_budget(heads, scores, options);
  return select_scored(heads, scores, options);
}

}  // namespace

Selection select_tokens(const LayerObservation& layer, const CompressionOptions& options,
                        SelectionTrace* trace) {
  validate(options);
  check_cache(layer, options);
  if (trace != nullptr) *trace = {};
  // A budget of exactly n keeps everything, too; scores are then computed only for a trace.
  const size_t length = layer.keys.rows;
  const auto is_budget = [&] { return length == static_cast<size_t>(std::max(options.budget, 0)); };
  if (keeps_whole(options, length) && (trace == nullptr || !is_budget())) {
    return keep_all(layer, options);
  }

  LayerScores scores = score(layer, options, trace);
  if (scores.candidates == 0) return keep_all(layer, options);
  Selection selection = select_chosen({&layer, 1}, {&scores, 1}, options);
  if (trace != nullptr) {
    for (size_t h = 0; h < scores.heads; ++h) {
      const auto row = scores.rows().row_span(h);
      trace->scores.emplace_back(row.begin(), row.end());
    }
  }
  return selection;
}

std::vector<LayerScores> score_parts(std::span<const LayerObservation> heads,
                                     const CompressionOptions& options) {
  validate(options);
  std::vector<LayerScores> scores;
  for (const LayerObservation& head : heads) {
    check_cache(head, options);
    scores.push_back(score(head, options, nullptr));
  }
  return scores;
}

Selection select_ragged(std::span<const LayerObservation> heads,
                        const CompressionOptions& options) {
  std::vector<LayerScores> scores = score_parts(heads, options);
  return select_chosen(heads, scores, options);
}

}  // namespace restkv
