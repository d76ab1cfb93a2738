#pragma once

#include <gguf.h>

#include <cstddef>
#include <string>

namespace restkv {

/// Copies the tokenizer of the GGUF file at `path` (all keys `tokenizer.*`) to `gguf`. A smaller
/// vocabulary drops the last tokens, with the merges and special tokens that need them; a larger
/// one adds tokens marked as unused; 0 keeps the file's. Returns the number of tokens. Throws Error
/// (kInput) naming the file.
size_t copy_tokenizer(const std::string& path, size_t vocabulary, gguf_context* gguf);

}  // namespace restkv
