#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/flags.h"
#include "restkv/model.h"
#include "restkv/session.h"

/// What cases with sessions of this process share.
namespace restkv::fuzz {

/// Those that `restkv run` and `chat` share.
std::vector<Flag> session_flags();

struct Options {
  SessionOptions session;
  ModelOptions model;
};

/// `flags` as `restkv run` would understand them; nothing if it refuses them.
std::optional<Options> options_of(const std::vector<std::string>& flags);

/// Fresh memory is filled with this byte, turned around, from now on (glibc without sanitizers,
/// which have their own filling).
void fill_memory(int byte);

/// The `n`th token of a text of "many", "few" or "one" different tokens.
int32_t nth_token(uint64_t n, std::string_view text);

}  // namespace restkv::fuzz
