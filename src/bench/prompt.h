#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "restkv/model.h"
#include "restkv/tokenizer.h"

namespace restkv::bench {

/// Throws `Error` (kInvalidArgument) if a prompt of one of these lengths and `decode` more tokens
/// exceed the model's context.
void require_context(std::span<const size_t> lengths, size_t decode, const ModelConfig& config);

/// `tokens` token ids from the text file at `path` or, if that is empty, from stories of a seeded
/// grammar. A shorter prompt is a prefix of a longer one. Throws `Error` (kInput) if the text is
/// too short.
std::vector<int32_t> make_prompt(const Tokenizer& tokenizer, const std::string& path, uint64_t seed,
                                 size_t tokens);

}  // namespace restkv::bench
