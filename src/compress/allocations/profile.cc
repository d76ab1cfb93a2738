#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/json.h"
#include "compress/allocation.h"
#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// A profile file. {"counts": [...]} gives tokens per head, protected ones included; {"shares":
/// [...]} gives relative shares of the budget without the protected tokens. Both have one entry per
/// layer: a number for all heads, or a list with one number per cache head.
struct Profile {
  bool counts = false;
  std::vector<std::vector<double>> layers;
};

template <class... Args>
[[noreturn]] void refuse(const std::string& path, fmt::format_string<Args...> format,
                         Args&&... args) {
  throw Error(ErrorCode::kInput, fmt::format("profile {}: {}", path,
                                             fmt::format(format, std::forward<Args>(args)...)));
}

double read_number(const Json& json, bool count, size_t layer, const std::string& path) {
  const double number = json.is_number() ? json.get<double>() : -1.0;
  if (!(number >= 0.0 && number <= 0x1p31) || (count && number != std::floor(number))) {
    refuse(path, "layer {} has {}; expected {} of 0 or more", layer, shown(json),
           count ? "whole numbers of tokens" : "shares");
  }
  return number;
}

Profile read_profile(const std::string& path) {
  if (path.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "allocation profile needs a file: give its path with the option profile");
  }
  const auto json = read_json(path);
  Profile profile;
  profile.counts = json.is_object() && json.contains("counts");
  const char* key = profile.counts ? "counts" : "shares";
  if (!json.is_object() || json.size() != 1 || !json.contains(key) || !json[key].is_array() ||
      json[key].empty()) {
    refuse(path, R"(expected {{"counts": [...]}} or {{"shares": [...]}} with one entry per layer)");
  }
  for (const auto& entry : json[key]) {
    auto& heads = profile.layers.emplace_back();
    if (!entry.is_array()) {
      heads.push_back(read_number(entry, profile.counts, profile.layers.size() - 1, path));
      continue;
    }
    if (entry.empty()) refuse(path, "layer {} has no heads", profile.layers.size() - 1);
    for (const auto& number : entry) {
      heads.push_back(read_number(number, profile.counts, profile.layers.size() - 1, path));
    }
  }
  return profile;
}

/// Expands the entries to [layers * heads].
std::vector<double> spread(const Profile& profile, const CacheShape& shape, size_t heads,
                           const std::string& path) {
  const size_t layers = shape.layers;
  if (profile.layers.size() != layers) {
    refuse(path, "it has {} layers, but the model has {}{}", profile.layers.size(), layers,
           shape.window_layers == 0
               ? ""
               : fmt::format(" beside {} that keep their window", shape.window_layers));
  }
  std::vector<double> numbers;
  for (size_t l = 0; l < layers; ++l) {
    const auto& row = profile.layers[l];
    if (row.size() != 1 && row.size() != heads) {
      refuse(path, "layer {} has {} heads, but the cache has {}", l, row.size(), heads);
    }
    for (size_t h = 0; h < heads; ++h) numbers.push_back(row[row.size() == 1 ? 0 : h]);
  }
  return numbers;
}

/// Candidates that every head of every layer keeps, [layers * heads], where each keeps `window`
/// protected tokens and `share` others on average.
std::vector<size_t> share_out(const Profile& profile, std::vector<double> numbers, size_t window,
                              size_t share, const std::string& path) {
  double sum = 0.0;
  for (const double x : numbers) sum += x;
  if (!profile.counts) {
    if (sum == 0.0) refuse(path, "all shares are 0");
    const size_t total = numbers.size() * share;
    for (double& x : numbers) x *= static_cast<double>(total) / sum;
    return apportion(numbers, total);
  }
  const size_t allowed = numbers.size() * (share + window);
  if (sum > static_cast<double>(allowed)) {
    refuse(path, "it keeps {} tokens in all, but a budget of {} allows {}; raise the budget to {}",
           sum, share + window, allowed, std::ceil(sum / static_cast<double>(numbers.size())));
  }
  std::vector<size_t> counts;
  for (const double x : numbers) {
    if (x < static_cast<double>(window)) {
      refuse(path,
             "a head keeps {} tokens, less than the {} that are always kept; lower the "
             "window or raise the count",
             x, window);
    }
    counts.push_back(static_cast<size_t>(x) - window);
  }
  return counts;
}

void check_shape(const CompressionOptions& options, const CacheShape& shape) {
  const std::string& path = options.profile;
  const Profile profile = read_profile(path);
  const size_t window = protected_tokens(options);
  const size_t heads = options.per_query_head ? shape.query_heads : shape.kv_heads;
  (void)share_out(profile, spread(profile, shape, heads, path), window,
                  static_cast<size_t>(options.budget) - window, path);
}

std::vector<size_t> allocate(const LayerObservation& layer, const LayerScores& scores, size_t share,
                             const CompressionOptions& options) {
  const std::string& path = options.profile;
  const Profile profile = read_profile(path);
  const std::vector<size_t> counts =
      share_out(profile, spread(profile, {.layers = layer.layers}, scores.heads, path),
                layer.keys.rows - scores.candidates, share, path);
  // A head cannot keep more than it has; the rest is not given to others.
  const auto first = counts.begin() + static_cast<ptrdiff_t>(layer.layer * scores.heads);
  return {first, first + static_cast<ptrdiff_t>(scores.heads)};
}

}  // namespace

Allocation profile_allocation() {
  Allocation allocation;
  allocation.name = "profile";
  allocation.over_layers = true;
  allocation.summary = "counts or shares of every layer and head from a JSON file";
  allocation.options = {"profile"};
  allocation.check = [](const CompressionOptions& options, const Method&) {
    (void)read_profile(options.profile);
  };
  allocation.check_shape = check_shape;
  allocation.allocate = allocate;
  return allocation;
}

}  // namespace restkv
