#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/compress.h"

/// The repeat pass: a prompt is fed once more behind itself, in chunks, and the attention of these
/// tokens says what of the prompt the model needs to say it again (KVzip, arXiv 2505.23416).
namespace restkv {

/// What is said around a chunk. `Conversation::repeat_prompt` has it for the template of a model.
struct RepeatPrompt {
  std::vector<int32_t> first;   ///< Asks to repeat the text; stands before the first chunk.
  std::vector<int32_t> later;   ///< Asks to go on from certain words; before each later chunk.
  std::vector<int32_t> answer;  ///< Opens the answer, in which the chunk stands.
  /// What the chat template puts in front of a text. As far as a sequence begins with these tokens,
  /// they are not repeated.
  std::vector<int32_t> prefix;
};

/// How a prompt is repeated.
struct RepeatPass {
  size_t chunk = 0;  ///< Tokens at a time; 0: not at all.
  /// Of the prompt the fed tokens see their chunk and the first tokens, in whole tiles of
  /// `kMaskTile`: a fraction of the attention. false: all of it.
  bool narrow = false;
  bool operator==(const RepeatPass&) const = default;
};

/// The pass that the options need: `repeat_chunk` and `repeats_narrowly`.
RepeatPass repeat_pass(const CompressionOptions& options);

/// Last tokens of a chunk that follow `RepeatPrompt::later`, as in both published programs.
inline constexpr size_t kRepeatOverlap = 8;

/// A chunk of a prompt with what is said around it.
struct RepeatFeed {
  std::vector<int32_t> tokens;
  size_t begin = 0, end = 0;  ///< The chunk among the prompt's tokens.
  bool narrow = false;        ///< As in `RepeatPass`.
};

/// Splits a text every `pass.chunk` tokens (above 0), after the prefix if it `begins` a sequence.
/// Fed are `first`, `answer`, chunk; then `later`, the last `kRepeatOverlap` tokens of the chunk
/// before, `answer`, chunk.
std::vector<RepeatFeed> repeat_feeds(std::span<const int32_t> tokens, const RepeatPass& pass,
                                     const RepeatPrompt& prompt, bool begins = true);

/// The most tokens that a feed of a prompt of n tokens can have.
size_t longest_feed(size_t n, size_t chunk, const RepeatPrompt& prompt);

}  // namespace restkv
