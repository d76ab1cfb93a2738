#pragma once

#include <string>
#include <string_view>

#include "restkv/compress.h"

namespace restkv {

/// The option that a method declares for itself, or null.
const OwnOption* find_own_option(const Method& method, std::string_view option);

/// Writes and reads the value as text. Throws `Error` (kInvalidArgument) naming option, value and
/// expected values, or if `options.method` has no such option.
void set_own_option(std::string_view option, CompressionOptions& options, std::string_view value);
std::string get_own_option(std::string_view option, const CompressionOptions& options);

/// Whether a method or an option can be called so: its name stands in texts such as
/// "lagkv:lag=9".
bool is_plain_name(std::string_view name);

/// Checks the own options of a method from outside. Throws `Error` (kInvalidArgument) for options
/// without a plain name, declared twice, with a name of another meaning, or with an impossible
/// default, and for conditions of options that are none.
void check_declarations(const Method& method);

/// Adds the method's own options to `compression_options`. Throws `Error` (kInvalidArgument) and
/// changes nothing if there is no room.
void list_own_options(const Method& method);

/// Checks the values of own options. Throws `Error` (kInvalidArgument) for options that the method
/// does not have, values of another type, and unknown words.
void check_own_options(const CompressionOptions& options, const Method& method);

}  // namespace restkv
