#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/budget.h"
#include "restkv/compress.h"
#include "restkv/sampler.h"
#include "restkv/session.h"

/// Options by text, as programs in other languages give them.
namespace restkv::doors {

/// A method's options and what their budget says of a prompt that is not known yet.
struct GivenMethod {
  CompressionOptions options;
  std::optional<Budget> share;       ///< Of the first prompt, instead of `options.budget`.
  std::vector<std::string> notices;  ///< A sentence for each value without effect.
};

/// `method`: "restkv", "snapkv:kernel=21"; `budget`: what `parse_budget` reads, or empty, if it
/// stands in the method or the method's default is wanted. Throws `Error` (kInvalidArgument).
GivenMethod parse_method(std::string_view method, std::string_view budget);

/// The same with the options of a prompt of n tokens.
CompressionOptions for_prompt(const GivenMethod& method, size_t n);

/// Settings of a sequence; an empty text is the default.
struct SequenceSettings {
  std::string method = {};   ///< "restkv".
  std::string budget = {};   ///< That of the method.
  std::string kv_type = {};  ///< "f16".
  std::string sparse = {};   ///< "dense".
  size_t chunk = 0;          ///< These as in `SessionOptions`.
  size_t interval = 0;
  int decode_budget = 0;
  bool compact_positions = false;
  std::string system = {};  ///< System message of conversations and documents; empty: none.
};

struct GivenSequence {
  SessionOptions options;
  std::optional<Budget> share;
  std::vector<std::string> notices;
};
/// Throws `Error` (kInvalidArgument) on values that cannot be used.
GivenSequence resolve(const SequenceSettings& settings);

/// "temperature=0.7:top_p=0.9:seed=3"; empty: the defaults. Throws `Error` (kInvalidArgument).
SamplingOptions parse_sampling(std::string_view text);

}  // namespace restkv::doors
