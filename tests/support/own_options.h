#pragma once

#include <string_view>

#include "compress/own_options.h"
#include "restkv/compress.h"

namespace restkv::testing {

inline bool has_own(const CompressionOptions& options, std::string_view name) {
  return find_own_option(find_method(options.method), name) != nullptr;
}

/// For tests of every method: sets an option if the method has it.
inline void set_if_own(CompressionOptions& options, std::string_view name, OptionValue value) {
  if (has_own(options, name)) options.own[std::string(name)] = std::move(value);
}

/// Number of first layers that are kept whole.
inline size_t skipped_layers(const CompressionOptions& options) {
  return has_own(options, "skip_layers") ? static_cast<size_t>(own_whole(options, "skip_layers"))
                                         : 0;
}

}  // namespace restkv::testing
