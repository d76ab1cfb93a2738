#pragma once

#include <string>

#include "restkv/tokenizer.h"
#include "server/scheduler/status.h"

namespace restkv::cli {

/// The text that a cache has read, printable, with what it still holds of it: in colours by the
/// share of the heads that hold a token, or with "[...]" for what hardly any of them does. Of a
/// long text the beginning and the end; a line above says how much is held.
std::string kept_view(const server::KeptTokens& kept, const Tokenizer& tokenizer, bool colours);

}  // namespace restkv::cli
