#pragma once

#include <string>
#include <string_view>

#include "restkv/compress.h"

namespace restkv {

/// The option that a method declares for itself, or null.
const OwnOption* find_own_option(const Method& method, std::string_view option);

/// Writes and reads the value as text. Throws `Error` (kInvalidArgument) naming option, value and
/// what is expected; also if `options.method` has no such option.
void set_own_option(std::string_view option, CompressionOptions& options, std::string_view value);
std::string get_own_option(std::string_view option, const CompressionOptions& options);

/// Throws `Error` (kInvalidArgument) for options of its own that a method from outside must not
/// declare: without a name, twice, under a name that stands for something else, or whose initial
/// value is none of theirs.
void check_declarations(const Method& method);

/// Puts the method's into `compression_options`. Throws `Error` (kInvalidArgument), and changes
/// nothing, if there is no room.
void list_own_options(const Method& method);

/// Throws `Error` (kInvalidArgument) for values of options that the method does not have, of
/// another type than theirs, or not among their words.
void check_own_options(const CompressionOptions& options, const Method& method);

}  // namespace restkv
