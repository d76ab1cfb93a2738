#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

template <class T>
std::string shape(const Heads<T>& x) {
  return fmt::format("[{}, {}, {}]", x.heads, x.rows, x.dim);
}

/// Throws unless keys and values fit each other and, where query heads matter, these.
void check_cache(const LayerObservation& layer, const CompressionOptions& options) {
  const size_t heads = layer.keys.heads;
  const size_t rows = layer.keys.rows;
  const size_t dim = layer.keys.dim;
  if (heads == 0 || dim == 0) refuse(fmt::format("keys are empty: {}", shape(layer.keys)));
  if (rows > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    refuse(fmt::format("{} positions are more than 32-bit positions can hold", rows));
  }
  if (layer.values.heads != heads || layer.values.rows != rows || layer.values.dim != dim) {
    refuse(fmt::format("values are {} but keys are {}; both must be [kv_heads, n, d]",
                       shape(layer.values), shape(layer.keys)));
  }
  if (observed_queries(options) == 0 && !options.per_query_head) return;
  if (layer.queries.heads == 0 || layer.queries.heads % heads != 0) {
    refuse(
        fmt::format("{} query heads cannot share {} KV heads; the first must be a multiple of "
                    "the second",
                    layer.queries.heads, heads));
  }
}

/// Throws unless there is what the method observes; a prompt that is kept whole needs none of it.
void check_observation(const LayerObservation& layer, const CompressionOptions& options) {
  const size_t observed = observed_queries(options);
  if (observed == 0) return;
  if (layer.queries.dim != layer.keys.dim) {
    refuse(fmt::format("queries are {} but keys are {}; head sizes differ", shape(layer.queries),
                       shape(layer.keys)));
  }
  if (layer.queries.rows < observed) {
    refuse(fmt::format("{} query rows are too few: method {} observes the last {}",
                       layer.queries.rows, options.method, observed));
  }
  if (!needs_output_factor(options)) return;
  if (layer.output == nullptr || layer.output->empty()) {
    refuse(
        fmt::format("method {} measures errors after W_O: pass LayerObservation::output, or set "
                    "use_wo to false",
                    options.method));
  }
  if (layer.output->heads() != layer.queries.heads || layer.output->head_dim() != layer.keys.dim) {
    refuse(fmt::format("the output factor is for {} heads of size {}, the layer has {} of size {}",
                       layer.output->heads(), layer.output->head_dim(), layer.queries.heads,
                       layer.keys.dim));
  }
}

}  // namespace

std::span<const Method> methods() {
  static const std::array table = {
      restkv_method(),
      snapkv_method(),
      streaming_llm_method(),
      full_method(),
  };
  return table;
}

const Method& find_method(std::string_view name) {
  for (const Method& method : methods()) {
    if (method.name == name) return method;
  }
  std::vector<std::string_view> names;
  for (const Method& method : methods()) names.push_back(method.name);
  refuse(fmt::format("there is no method \"{}\"; known are {}", name, fmt::join(names, ", ")));
}

CompressionOptions default_options(std::string_view method) { return find_method(method).defaults; }

void validate(const CompressionOptions& options) { find_method(options.method).check(options); }

bool needs_output_factor(const CompressionOptions& options) {
  const auto needs = find_method(options.method).needs_output;
  return needs != nullptr && needs(options);
}

size_t observed_queries(const CompressionOptions& options) {
  return find_method(options.method).observes_window ? static_cast<size_t>(options.window) : 0;
}

void check_window(const CompressionOptions& options) {
  if (options.window < 1) {
    refuse(fmt::format("window is {}; the observation window needs at least 1 token (32 is usual)",
                       options.window));
  }
  if (options.budget <= options.window) {
    refuse(
        fmt::format("budget {} leaves no room beside the observation window of {} tokens; raise "
                    "the budget above {} or lower the window",
                    options.budget, options.window, options.window));
  }
}

void check_pooling(const CompressionOptions& options) {
  if (options.kernel < 1 || options.kernel % 2 == 0) {
    refuse(fmt::format("kernel is {}; the pooling width must be odd and positive, for instance {}",
                       options.kernel, std::max(options.kernel, 0) / 2 * 2 + 1));
  }
  if (options.pooling == Pooling::kAdaptive &&
      !(options.drift_scale > 0.0 && std::isfinite(options.drift_scale))) {
    refuse(
        fmt::format("drift_scale is {}; positions per step of the adaptive window must be a "
                    "positive number (2000 is the authors' value)",
                    options.drift_scale));
  }
}

Selection keep_all(const LayerObservation& layer, const CompressionOptions& options) {
  std::vector<int32_t> every(layer.keys.rows);
  std::iota(every.begin(), every.end(), 0);
  const size_t heads = options.per_query_head ? layer.queries.heads : layer.keys.heads;
  return {std::vector<std::vector<int32_t>>(heads, every)};
}

Selection select_tokens(const LayerObservation& layer, const CompressionOptions& options,
                        SelectionTrace* trace) {
  validate(options);
  check_cache(layer, options);
  if (trace != nullptr) *trace = {};
  // A budget of exactly n keeps everything too; its scores are worth computing for a trace only.
  const auto budget = static_cast<size_t>(std::max(options.budget, 0));
  const size_t length = layer.keys.rows;
  if (length < budget || (length == budget && trace == nullptr)) return keep_all(layer, options);
  check_observation(layer, options);
  return find_method(options.method).select(layer, options, trace);
}

}  // namespace restkv
