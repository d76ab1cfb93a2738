#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_file.h"

namespace restkv {

/// What becomes of a metadata key.
enum class KeyUse {
  kRead,     ///< It counts, within its limits.
  kFixed,    ///< It asks for a computation that restkv does not have, unless its value says not to.
  kIgnored,  ///< It does not change what is computed.
};

/// How one key, or a group of them, is treated.
struct KeyRule {
  /// One that begins with a dot stands behind the architecture's name. With a star at its end, it
  /// stands for all that begin so and have no rule of their own.
  std::string_view key;
  KeyUse use;
  /// Of what the key does (kRead), is about (kFixed), or why it does not matter (kIgnored).
  std::string_view note;
  /// Limits of a number (kRead), none if equal; the one or two values that change nothing (kFixed).
  double least = 0;
  double most = 0;
  bool or_zero = false;  ///< Files write 0 for "none", whatever the limits (kRead).
};

/// Every key that libllama knows, and no other: `model_test` compares this table with libllama's
/// own strings and with docs/parity.md.
std::span<const KeyRule> key_rules();
/// The rule for a key, its own or that of its group; null where libllama does not know the key.
const KeyRule* find_key_rule(std::string_view key);

/// A file's metadata as its architecture means them. Suffixes begin with a dot, as in the rules.
class Metadata {
 public:
  /// Holds every key against its rule. Throws `Error`, which names key, value and what was
  /// expected: kInput outside the limits, kUnsupported for what is not computed.
  Metadata(const GgufFile& file, std::string_view architecture);

  [[nodiscard]] std::string key(std::string_view suffix) const;
  [[nodiscard]] bool has(std::string_view suffix) const;
  [[nodiscard]] std::optional<size_t> find_integer(std::string_view suffix) const;
  [[nodiscard]] size_t integer(std::string_view suffix) const;
  [[nodiscard]] size_t integer(std::string_view suffix, size_t fallback) const;
  /// Of a list with one entry for each of `layers`; none where the key is not there or no list.
  [[nodiscard]] std::optional<std::vector<double>> find_list(std::string_view suffix,
                                                             size_t layers) const;
  /// Of a value that may also be a list, one entry for each of `layers`: they must be equal.
  [[nodiscard]] std::optional<size_t> find_for_all_layers(std::string_view suffix,
                                                          size_t layers) const;
  [[nodiscard]] std::optional<double> find_number(std::string_view suffix) const;
  [[nodiscard]] double number(std::string_view suffix) const;
  [[nodiscard]] double number(std::string_view suffix, double fallback) const;
  /// The fallback also for a 0, where that says "none".
  [[nodiscard]] double number_unless_zero(std::string_view suffix, double fallback) const;

  /// "'llama.rope.freq_base' is 0; expected 10 to 1000000000000."
  [[noreturn]] void refuse(std::string_view suffix, const std::string& value,
                           const std::string& expected) const;

 private:
  void check_limits(const KeyRule& rule) const;
  void check_fixed(const KeyRule& rule) const;
  template <class Value>
  [[nodiscard]] Value required(std::optional<Value> value, std::string_view suffix) const;

  const GgufFile& file_;
  std::string architecture_;
};

}  // namespace restkv
