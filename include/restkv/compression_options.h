#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/compress.h"

namespace restkv {

/// One option of `CompressionOptions` by name, shared or of one method: what command lines,
/// configuration files and documentation are made from.
struct CompressionOption {
  std::string_view name;    ///< "drift_scale"
  std::string_view values;  ///< "N", "X", or the words it takes: "mean|max|sum".
  std::string_view help;
  void (*parse)(std::string_view name, CompressionOptions&, std::string_view value);
  std::string (*print)(std::string_view name, const CompressionOptions&);
  /// Its value, where that may be any real number; else null.
  double (*real)(const CompressionOptions&, std::string_view name);
  bool shared;  ///< Not declared by a method for itself.

  /// The value as text. For options that are shared or of `options.method`.
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

/// The option whose value makes `option` change nothing, as "temporal" does to "alpha" if it is
/// mean; "" if there is none. For options that the method reads.
std::string_view overridden_by(const CompressionOptions& options, std::string_view option);

/// Options by name, with their values.
using OptionTexts = std::map<std::string, std::string>;
/// What messages call an option: its name, or what stands for it where it was given.
using OptionSpelling = std::string (*)(std::string_view option);
inline std::string option_name(std::string_view option) { return std::string(option); }

struct GivenCompression {
  CompressionOptions options;
  std::vector<std::string> notices;  ///< A sentence for each value that changes nothing.
};

/// A method's options with some of them changed. `preset` is an option, too, "default" or "paper":
/// what the others are. Throws `Error` (kInvalidArgument) also for an option that the method would
/// ignore. Does not `validate`.
GivenCompression with_options(std::string_view method, const OptionTexts& values,
                              OptionSpelling spell = option_name);
/// The same from one text: "snapkv:kernel=21:allocation=ada", "restkv:preset=paper".
GivenCompression parse_compression(std::string_view text, OptionSpelling spell = option_name);

}  // namespace restkv
