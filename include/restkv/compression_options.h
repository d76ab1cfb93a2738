#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/compress.h"

namespace restkv {

/// One option of `CompressionOptions` by name, shared or of one method. Command lines,
/// configuration files and documentation are made from these.
struct CompressionOption {
  std::string_view name;    ///< "drift_scale"
  std::string_view values;  ///< "N", "X", or the words it takes: "mean|max|sum".
  std::string_view help;
  void (*parse)(std::string_view name, CompressionOptions&, std::string_view value);
  std::string (*print)(std::string_view name, const CompressionOptions&);
  /// The value of an option that takes real numbers; null for others.
  double (*real)(const CompressionOptions&, std::string_view name);
  bool shared;  ///< False: declared by a method for itself.

  /// The value as text. The option must be shared or belong to `options.method`.
  [[nodiscard]] std::string get(const CompressionOptions& options) const {
    return print(name, options);
  }
  /// Throws `Error` (kInvalidArgument) naming option, value and what is expected.
  void set(CompressionOptions& options, std::string_view value) const {
    parse(name, options, value);
  }
};

/// All options but `method`, in the order in which documentation lists them.
std::span<const CompressionOption> compression_options();

/// Whether the option is shared, or one that `options.method` declares for itself.
bool belongs_to(const CompressionOption& option, const CompressionOptions& options);

/// Throws `Error` (kInvalidArgument) listing the known names.
const CompressionOption& find_compression_option(std::string_view name);

/// The option whose value leaves `option` without effect; "" if there is none. For example, "alpha"
/// has no effect if "temporal" is mean. `option` must be one that the method reads.
std::string_view overridden_by(const CompressionOptions& options, std::string_view option);

/// Options by name, with their values.
using OptionTexts = std::map<std::string, std::string>;
/// Spelling of an option in messages: its name, or for instance the command-line flag.
using OptionSpelling = std::string (*)(std::string_view option);
inline std::string option_name(std::string_view option) { return std::string(option); }

struct GivenCompression {
  CompressionOptions options;
  std::vector<std::string> notices;  ///< A sentence for each value without effect.
};

/// A method's options with some of them changed. The option `preset` ("default" or "paper") sets
/// the values of all others. Throws `Error` (kInvalidArgument) on unknown names and values, and on
/// an option that the method would ignore. Does not `validate`.
GivenCompression with_options(std::string_view method, const OptionTexts& values,
                              OptionSpelling spell = option_name);
/// The same for a text such as "snapkv:kernel=21:allocation=ada" or "restkv:preset=paper".
GivenCompression parse_compression(std::string_view text, OptionSpelling spell = option_name);

}  // namespace restkv
