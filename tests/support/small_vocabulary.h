#pragma once

#include <string>
#include <vector>

#include "support/raw_gguf.h"

namespace restkv::testing {

/// Tokens in a small vocabulary.
inline constexpr size_t kSmallVocabulary = 288;

/// Adds a vocabulary of the kind that SentencePiece makes ("llama"): special tokens, 256 bytes and
/// some words with scores. `control`: further control tokens, about a dozen at most.
void add_sentencepiece_vocabulary(RawGguf& gguf, const std::vector<std::string>& control = {});
/// Adds a byte-level BPE vocabulary ("gpt2"): 256 bytes in GPT-2's letters, special tokens, merges.
void add_bpe_vocabulary(RawGguf& gguf, const std::vector<std::string>& control = {});

}  // namespace restkv::testing
