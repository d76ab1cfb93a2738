#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_file.h"

namespace restkv {

/// Treatment of a metadata key.
enum class KeyUse {
  kRead,     ///< It is read and must be within limits.
  kFixed,    ///< It needs a computation that restkv lacks, unless its value disables that.
  kIgnored,  ///< It has no effect on the computation.
};

/// Rule for one key or a group of keys.
struct KeyRule {
  /// A key that begins with a dot follows the architecture's name. A star at the end covers all
  /// keys with this beginning that have no own rule.
  std::string_view key;
  KeyUse use;
  /// The key's effect (kRead), its subject (kFixed), or the reason why it is ignored (kIgnored).
  std::string_view note;
  /// Limits of a number (kRead), none if equal; the one or two values that change nothing (kFixed).
  double least = 0;
  double most = 0;
  bool or_zero = false;  ///< 0 means "none" and is accepted outside the limits (kRead).
};

/// Exactly the keys that libllama knows: `model_test` compares this table with libllama's strings
/// and with docs/parity.md.
std::span<const KeyRule> key_rules();
/// The rule of a key or of its group; null if libllama does not know the key.
const KeyRule* find_key_rule(std::string_view key);

/// A file's metadata by suffixes of its architecture's keys. Suffixes begin with a dot, as in the
/// rules.
class Metadata {
 public:
  /// Checks every key by its rule. Throws `Error` naming key, value and the expected values: kInput
  /// for values outside the limits, kUnsupported for computations that restkv lacks.
  Metadata(const GgufFile& file, std::string_view architecture);

  [[nodiscard]] std::string key(std::string_view suffix) const;
  [[nodiscard]] bool has(std::string_view suffix) const;
  [[nodiscard]] std::optional<size_t> find_integer(std::string_view suffix) const;
  [[nodiscard]] size_t integer(std::string_view suffix) const;
  [[nodiscard]] size_t integer(std::string_view suffix, size_t fallback) const;
  /// A list with one entry for each of `layers`; none if the key is missing or no list.
  [[nodiscard]] std::optional<std::vector<double>> find_list(std::string_view suffix,
                                                             size_t layers) const;
  /// A value that may also be a list of equal entries, one for each of `layers`.
  [[nodiscard]] std::optional<size_t> find_for_all_layers(std::string_view suffix,
                                                          size_t layers) const;
  [[nodiscard]] std::optional<double> find_number(std::string_view suffix) const;
  [[nodiscard]] double number(std::string_view suffix) const;
  [[nodiscard]] double number(std::string_view suffix, double fallback) const;
  /// The number, or `fallback` if the key is missing or 0, which means "none".
  [[nodiscard]] double number_unless_zero(std::string_view suffix, double fallback) const;
  /// A boolean, or a number that is not 0.
  [[nodiscard]] std::optional<bool> find_flag(std::string_view suffix) const;

  /// "'llama.rope.freq_base' is 0; expected 10 to 1000000000000."
  [[noreturn]] void refuse(std::string_view suffix, const std::string& value,
                           const std::string& expected) const;
  /// The same (kUnsupported) for a value that asks for `what`, which the family's forward pass
  /// lacks.
  [[noreturn]] void refuse_as_unsupported(std::string_view suffix, const std::string& value,
                                          const std::string& expected, std::string_view what) const;

 private:
  void check_limits(const KeyRule& rule) const;
  void check_fixed(const KeyRule& rule) const;
  template <class Value>
  [[nodiscard]] Value required(std::optional<Value> value, std::string_view suffix) const;

  const GgufFile& file_;
  std::string architecture_;
};

}  // namespace restkv
