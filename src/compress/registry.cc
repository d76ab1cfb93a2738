#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/closest_name.h"
#include "base/find_named.h"
#include "compress/allocation.h"
#include "compress/critical.h"
#include "compress/merging.h"
#include "compress/method.h"
#include "compress/output_error.h"
#include "compress/own_options.h"
#include "compress/refit.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

/// The method's answer for options; false or 0 without one.
template <class Answer>
Answer answer_of(Answer (*Method::*question)(const CompressionOptions&),
                 const CompressionOptions& options) {
  const auto answer = find_method(options.method).*question;
  return answer != nullptr ? answer(options) : Answer{};
}

/// Adds the method's own options to the shared ones it lists, and the options of allocation and
/// those of `critical`, `merge` and `refit`, which all allocating methods read, and `tolerance`,
/// which those with an observation window read.
void complete_options(Method& method) {
  std::vector<std::string_view>& options = method.options;
  for (const OwnOption& own : method.own_options) options.push_back(own.name);
  if (!method.allocates) return;
  options.emplace_back("allocation");
  for (const Allocation& allocation : allocations()) {
    for (const std::string_view option : allocation.options) {
      if (std::find(options.begin(), options.end(), option) == options.end()) {
        options.push_back(option);
      }
    }
  }
  if (std::find(options.begin(), options.end(), "window") != options.end()) {
    options.emplace_back("tolerance");
  }
  options.insert(options.end(),
                 {"critical", "critical_ratio", "critical_epsilon", "merge", "merge_threshold",
                  "merge_fraction", "refit", "refit_queries", "refit_ridge"});
}

/// Reserved at once, so that references to rows stay valid.
constexpr size_t kMostMethods = 128;

std::vector<Method>& method_table() {
  static std::vector<Method> table = [] {
    std::vector<Method> rows;
    rows.reserve(kMostMethods);
    for (Method method : {
             restkv_method(),
             snapkv_method(),
             streaming_llm_method(),
             h2o_method(),
             observed_attention_method(),
             tova_method(),
             cake_method(),
             chunkkv_method(),
             finch_method(),
             dropkv_method(),
             rkv_method(),
             triattention_method(),
             lacache_method(),
             expected_attention_method(),
             keydiff_method(),
             lagkv_method(),
             cur_method(),
             leverage_method(),
             compactor_method(),
             kvzip_method(),
             kvzip_plus_method(),
             kvzap_method(),
             restkv_repeat_method(),
             attention_matching_method(),
             knorm_method(),
             random_method(),
             full_method(),
         }) {
      complete_options(method);
      rows.push_back(std::move(method));
    }
    return rows;
  }();
  return table;
}

}  // namespace

std::span<const Method> methods() { return method_table(); }

void register_method(Method method) {
  if (!is_plain_name(method.name)) {
    refuse(fmt::format("a method is called \"{}\"; a name must be of letters, digits, - and _",
                       method.name));
  }
  for (const Method& known : methods()) {
    if (same_name(known.name, method.name)) {
      refuse(fmt::format(R"(there is a method "{}" already; choose another name than "{}")",
                         known.name, method.name));
    }
  }
  if ((method.watch == nullptr) != (method.watched_tokens == nullptr)) {
    refuse(
        fmt::format("method \"{}\" must name the tokens that it watches and say what it writes "
                    "about them: watched_tokens and watch belong together",
                    method.name));
  }
  if (method.check == nullptr || method.score == nullptr) {
    refuse(fmt::format("method \"{}\" says not how it checks its options or how it scores",
                       method.name));
  }
  for (const std::string_view option : method.options) {
    if (!find_compression_option(option).shared) {
      refuse(
          fmt::format("option {} belongs to another method; declare it among own_options", option));
    }
  }
  check_declarations(method);
  if (methods().size() == kMostMethods) {
    refuse(fmt::format("there are {} methods, and no room for \"{}\"", kMostMethods, method.name));
  }
  complete_options(method);
  method.defaults.method = method.name;
  if (method.paper_defaults) method.paper_defaults->method = method.name;
  list_own_options(method);
  method_table().push_back(std::move(method));
}

const Method& find_method(std::string_view name) {
  // "SnapKV", as papers write it.
  const auto written = std::ranges::find_if(
      methods(), [&](const Method& method) { return same_name(method.name, name); });
  if (written != methods().end()) return *written;
  return find_named(methods(), &Method::name, name, "there is no method \"{}\"; known are {}");
}

std::span<const Allocation> allocations() {
  static const std::array table = {
      uniform_allocation(), pyramid_allocation(), ada_allocation(),     ada_pyramid_allocation(),
      global_allocation(),  cake_allocation(),    profile_allocation(),
  };
  return table;
}

const Allocation& find_allocation(std::string_view name) {
  return find_named(allocations(), &Allocation::name, name,
                    "there is no allocation \"{}\"; known are {}");
}

CompressionOptions default_options(std::string_view method) { return find_method(method).defaults; }

CompressionOptions paper_options(std::string_view method) {
  const Method& row = find_method(method);
  return row.paper_defaults.value_or(row.defaults);
}

void validate(const CompressionOptions& options) {
  const Method& method = find_method(options.method);
  const Allocation& allocation = find_allocation(options.allocation);
  check_own_options(options, method);
  method.check(options);
  for (const CompressionOption& option : compression_options()) {
    if (option.real == nullptr || !option.shared) continue;
    const double value = option.real(options, option.name);
    if (!std::isfinite(value))
      refuse(fmt::format("{} is {}; expected a number", option.name, value));
  }
  if (options.tolerance != 0.0) check_tolerance(options);
  if (!method.allocates) return;
  if (allocation.check != nullptr) allocation.check(options, method);
  if (options.critical) check_critical(options, method);
  if (options.merge) check_merging(options);
  if (refits(options)) check_refit(options);
}

void validate(const CompressionOptions& options, const CacheShape& shape) {
  validate(options);
  const Method& method = find_method(options.method);
  if (shape.layers == 0) return;
  if (method.check_shape != nullptr) method.check_shape(options, shape);
  if (!method.allocates) return;
  const Allocation& allocation = find_allocation(options.allocation);
  if (allocation.check_shape != nullptr) allocation.check_shape(options, shape);
}

bool needs_output_factor(const CompressionOptions& options) {
  return answer_of(&Method::needs_output, options);
}

bool needs_output_weights(const CompressionOptions& options) {
  return (options.critical && find_method(options.method).allocates) || chooses_budget(options);
}

size_t observed_outputs(const CompressionOptions& options) {
  return answer_of(&Method::observed_outputs, options);
}

size_t observed_queries(const CompressionOptions& options) {
  size_t of_method = answer_of(&Method::observed_queries, options);
  if (chooses_budget(options)) of_method = std::max(of_method, observe_window(options));
  if (!find_method(options.method).allocates) return of_method;
  const auto of_allocation = find_allocation(options.allocation).observed_queries;
  const size_t of_refit = options.refit == Refit::kWindow ? observe_window(options) : 0;
  return std::max(
      {of_method, of_refit, of_allocation != nullptr ? of_allocation(options) : size_t{0}});
}

bool needs_attention_sums(const CompressionOptions& options) {
  return answer_of(&Method::needs_attention_sums, options);
}

WatchedTokens watched_tokens(const CompressionOptions& options) {
  return answer_of(&Method::watched_tokens, options);
}

bool watches_outputs(const CompressionOptions& options) {
  return answer_of(&Method::watches_outputs, options);
}

size_t repeat_chunk(const CompressionOptions& options) {
  if (watched_tokens(options) == WatchedTokens::kRepeat) {
    return static_cast<size_t>(own_whole(options, kRepeatChunk));
  }
  constexpr size_t kUsualChunk = 512;
  return repeat_queries(options) > 0 ? kUsualChunk : 0;
}

bool refits(const CompressionOptions& options) {
  return options.refit != Refit::kNone && find_method(options.method).allocates;
}

size_t repeat_queries(const CompressionOptions& options) {
  return refits(options) && options.refit == Refit::kRepeat
             ? static_cast<size_t>(options.refit_queries)
             : 0;
}

bool repeats_narrowly(const CompressionOptions& options) {
  if (find_own_option(find_method(options.method), kRepeatSees) != nullptr) {
    return own_word(options, kRepeatSees) == 1;
  }
  return watched_tokens(options) != WatchedTokens::kRepeat && repeat_queries(options) > 0;
}

bool reallocates(const CompressionOptions& options) {
  return find_method(options.method).allocates &&
         find_allocation(options.allocation).reallocate != nullptr;
}

bool chooses_budget(const CompressionOptions& options) { return options.tolerance != 0.0; }

bool keeps_whole(const CompressionOptions& options, size_t tokens) {
  auto most = static_cast<size_t>(std::max(options.budget, 0));
  if (chooses_budget(options)) most = std::min(most, least_chosen(options));
  return tokens <= most && !least_score(options);
}

size_t least_chosen(const CompressionOptions& options) { return observe_window(options) + 1; }

bool needs_query_statistics(const CompressionOptions& options) {
  return find_method(options.method).future_positions != nullptr;
}

size_t future_positions(const CompressionOptions& options) {
  return answer_of(&Method::future_positions, options);
}

bool needs_unrotated_keys(const CompressionOptions& options) {
  return answer_of(&Method::needs_unrotated_keys, options);
}

std::vector<size_t> rotation_offsets(const CompressionOptions& options) {
  return answer_of(&Method::rotation_offsets, options);
}

bool keeps_layers(const CompressionOptions& options) {
  return answer_of(&Method::keeps_layers, options);
}

std::optional<double> least_score(const CompressionOptions& options) {
  return answer_of(&Method::least_score, options);
}

size_t observe_window(const CompressionOptions& options) {
  return static_cast<size_t>(options.window);
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
  constexpr int kWidest = 4095;  // each score costs as many sums
  if (options.kernel > kWidest) {
    refuse(
        fmt::format("kernel is {}; the pooling width must be odd and at most {} (5 to 63 are "
                    "usual)",
                    options.kernel, kWidest));
  }
  if (options.kernel != kAutoKernel && (options.kernel < 1 || options.kernel % 2 == 0)) {
    refuse(fmt::format(
        "kernel is {}; the pooling width must be odd and positive, for instance {}, or auto",
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

int kvpress_budget(size_t length, double compression_ratio) {
  if (!(compression_ratio >= 0.0 && compression_ratio < 1.0)) {
    refuse(
        fmt::format("compression ratio {} is not a part of the prompt: give at least 0 and less "
                    "than 1",
                    compression_ratio));
  }
  return std::max(1, static_cast<int>(static_cast<double>(length) * (1.0 - compression_ratio)));
}

size_t cache_heads(const LayerObservation& layer, const CompressionOptions& options) {
  return options.per_query_head ? layer.queries.heads : layer.keys.heads;
}

size_t before_window(const LayerObservation& layer, const CompressionOptions& options) {
  const size_t n = layer.keys.rows;
  return n - std::min(n, static_cast<size_t>(options.window));
}

size_t protected_tokens(const CompressionOptions& options) {
  const std::vector<std::string_view>& read = find_method(options.method).options;
  const bool window = std::find(read.begin(), read.end(), "window") != read.end();
  return window ? static_cast<size_t>(options.window) : 0;
}

std::string describe_layers(const CacheShape& shape) {
  if (shape.window_layers == 0) return fmt::format("the {} layers of the model", shape.layers);
  return fmt::format("the {} layers of the model whose cache is compressed ({} keep their window)",
                     shape.layers, shape.window_layers);
}

}  // namespace restkv
