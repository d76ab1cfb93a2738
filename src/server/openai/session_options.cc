// The object "restkv" of a request.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/option_text.h"
#include "compress/method.h"
#include "restkv/attention.h"
#include "restkv/budget.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "server/http/http_error.h"
#include "server/openai/answer_options.h"

namespace restkv::server {
namespace {

constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
constexpr size_t kMostTextBytes = 512;

/// `read`'s value; what the library refuses is an error of the field `name`.
decltype(auto) of_field(const FieldReader& fields, std::string_view name, auto&& read) {
  try {
    return read();
  } catch (const Error& error) {
    throw http_error(error, fields.path(name));
  }
}

void parse_method(const FieldReader& fields, const std::string& text, AskedSession& asked) {
  CompressionOptions& options = asked.options.compression;
  of_field(fields, "method", [&] {
    CompressionOptions given = parse_compression(text).options;
    const auto options_of_text = parse_option_text(text).options;
    if (std::ranges::any_of(options_of_text,
                            [](const auto& option) { return option.first == "budget"; })) {
      asked.share.reset();
    } else {
      given.budget = options.budget;
    }
    options = std::move(given);
  });
  // A file's name must not come from outside.
  if (!options.profile.empty() || options.allocation == "profile") {
    refuse_field(fields.path("method"),
                 "the allocation 'profile' reads a file, which requests may not name; choose "
                 "uniform, pyramid, ada, ada-pyramid or global");
  }
  if (!options.statistics.empty() || find_method(options.method).needs_statistics) {
    refuse_field(fields.path("method"),
                 fmt::format("the method '{}' reads a file of statistics, which requests may not "
                             "name; choose another method",
                             options.method));
  }
}

/// A number of tokens, "25%", or "auto": up to `most` tokens.
void parse_budget_field(const FieldReader& fields, const Json& value, int most,
                        AskedSession& asked) {
  Budget budget;
  if (value.is_string()) {
    const std::string text = *fields.text("budget", kMostTextBytes);
    budget = of_field(fields, "budget", [&] { return parse_budget(text); });
  } else {
    budget.tokens = static_cast<int>(*fields.whole("budget", 1, kMost));
  }
  asked.share.reset();
  CompressionOptions& options = asked.options.compression;
  if (budget.share > 0) {
    asked.share = budget;
  } else if (budget.tolerance > 0) {
    set_budget(options, budget, 0);
    if (budget.tokens == 0) options.budget = most;
  } else {
    options.budget = budget.tokens;
  }
}

}  // namespace

AskedSession parse_session_options(const FieldReader& restkv, const AskedSession& start,
                                   const RequestLimits& limits) {
  constexpr std::array<std::string_view, 6> kKnown{"method",   "budget",  "decode_budget",
                                                   "interval", "kv_type", "sparse"};
  for (const auto& [name, value] : restkv.object_fields()) {
    if (std::ranges::find(kKnown, name) != kKnown.end()) continue;
    refuse_field(restkv.path(name), fmt::format("'{}' is not known; expected {}", restkv.path(name),
                                                fmt::join(kKnown, ", ")));
  }
  AskedSession asked = start;
  SessionOptions& options = asked.options;
  if (const auto method = restkv.text("method", kMostTextBytes)) {
    parse_method(restkv, *method, asked);
  }
  const bool is_full = options.compression.method == "full";
  if (is_full && !limits.full_cache) {
    refuse_field(restkv.path("method"),
                 "the method 'full' keeps the whole cache, which this server does not allow; "
                 "choose another method");
  }
  if (const Json* budget = restkv.find("budget")) {
    if (is_full) restkv.refuse("budget", "none: the method 'full' keeps everything");
    parse_budget_field(restkv, *budget, limits.max_budget, asked);
  }
  for (const char* name : {"decode_budget", "interval"}) {
    if (is_full && restkv.whole(name, 0, kMost).value_or(0) > 0) {
      restkv.refuse(name, "0: the method 'full' never cuts the cache");
    }
  }
  if (const auto budget = restkv.whole("decode_budget", 0, kMost)) {
    options.decode_budget = static_cast<int>(*budget);
  }
  if (const auto interval = restkv.whole("interval", 0, kMost)) {
    options.interval = static_cast<size_t>(*interval);
  }
  if (options.decode_budget != 0 && options.interval == 0) {
    refuse_field(restkv.path("decode_budget"),
                 fmt::format("'{}' has no effect without an 'interval'; give one",
                             restkv.path("decode_budget")));
  }
  const auto check = [&](const char* name, int budget) {
    if (is_full || budget <= limits.max_budget) return;
    refuse_field(restkv.path(name), fmt::format("'{}' is {}; this server allows up to {}",
                                                restkv.path(name), budget, limits.max_budget));
  };
  // Nothing can be said of a share yet.
  const int budget = options.compression.budget;
  if (asked.share) {
    options.compression.budget = static_cast<int>(kMost);
  } else {
    check("budget", budget);
  }
  check("decode_budget", options.decode_budget);
  if (const auto type = restkv.text("kv_type", kMostTextBytes)) {
    options.kv_type = of_field(restkv, "kv_type", [&] { return find_kv_type(*type); });
  }
  if (const auto sparse = restkv.text("sparse", kMostTextBytes)) {
    options.sparse = of_field(restkv, "sparse", [&] {
      SparseOptions given = parse_sparse(*sparse);
      validate(given);
      return given;
    });
  }
  of_field(restkv, restkv.find("budget") != nullptr ? "budget" : "method",
           [&] { validate(options.compression); });
  options.compression.budget = budget;
  return asked;
}

SessionOptions session_for(const AskedSession& asked, size_t prompt_tokens,
                           const RequestLimits& limits) {
  SessionOptions options = asked.options;
  CompressionOptions& compression = options.compression;
  if (!asked.share || compression.method == "full") return options;
  const auto least = static_cast<int>(protected_tokens(compression)) + 1;
  compression.budget = std::min(std::max(asked.share->of(prompt_tokens), least), limits.max_budget);
  try {
    validate(compression);
  } catch (const Error& error) {
    throw http_error(error, "restkv.budget");
  }
  return options;
}

}  // namespace restkv::server
