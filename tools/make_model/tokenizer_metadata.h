#pragma once

#include <gguf.h>

#include <cstddef>
#include <string>

namespace restkv {

/// Copies what the GGUF file at `path` says about its tokenizer (all keys `tokenizer.*`) to `gguf`.
/// A vocabulary other than the file's own is made by leaving out the last tokens, with the merges
/// and special tokens that need them, or by adding tokens marked as unused; 0 keeps the file's.
/// Returns the number of tokens. Throws Error (kInput) naming the file.
size_t copy_tokenizer(const std::string& path, size_t vocabulary, gguf_context* gguf);

}  // namespace restkv
