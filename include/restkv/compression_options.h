#pragma once

#include <span>
#include <string>
#include <string_view>

#include "restkv/compress.h"

namespace restkv {

/// One field of `CompressionOptions` by name: what command lines, configuration files and
/// documentation are made from.
struct CompressionOption {
  std::string_view name;    ///< The field's name, for instance "drift_scale".
  std::string_view values;  ///< "N", "X", or the words it takes: "mean|max|sum".
  std::string_view help;
  void (*parse)(std::string_view name, CompressionOptions&, std::string_view value);
  std::string (*get)(const CompressionOptions&);
  double CompressionOptions::*real = nullptr;  ///< The field, where it holds any real number.

  /// Throws `Error` (kInvalidArgument) naming option, value and what is expected.
  void set(CompressionOptions& options, std::string_view value) const {
    parse(name, options, value);
  }
};

/// All options but `method`, in the order in which documentation lists them.
std::span<const CompressionOption> compression_options();

/// Throws `Error` (kInvalidArgument) listing the known names.
const CompressionOption& find_compression_option(std::string_view name);

/// The option whose value makes `option` change nothing, as "temporal" does to "alpha" if it is
/// mean; "" if there is none. For options that the method reads.
std::string_view overridden_by(const CompressionOptions& options, std::string_view option);

}  // namespace restkv
