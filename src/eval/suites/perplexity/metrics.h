#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

/// Perplexity of whole documents, as lm-evaluation-harness 0.4.13 has it.
namespace restkv::eval {

/// exp(-log_likelihood / units): word_perplexity with words, byte_perplexity with UTF-8 bytes,
/// token perplexity with tokens, each summed over all documents first.
double perplexity_per(double log_likelihood, double units);

/// Bits per unit, -log_likelihood / units / ln 2: bits_per_byte.
double bits_per(double log_likelihood, double units);

/// Words of a document: the parts of a split at runs of white space. White space at an end makes
/// an empty part, which counts; so an empty document has one word.
size_t perplexity_words(std::string_view document);

/// Tokens to score and the tokens before them: the model is fed `context` and all but the last of
/// `scored`.
struct RollingWindow {
  std::vector<int32_t> context;
  std::vector<int32_t> scored;
};

/// Windows of at most `max_length` fed tokens that score every token of a document exactly once.
/// The first window begins after `prefix_token` and scores all its tokens; each later one is filled
/// up with tokens before those that it scores, `min_context` of them at least. Throws
/// Error(kInvalidArgument) unless 1 <= min_context <= max_length.
std::vector<RollingWindow> rolling_windows(std::span<const int32_t> tokens, int32_t prefix_token,
                                           size_t max_length, size_t min_context = 1);

}  // namespace restkv::eval
