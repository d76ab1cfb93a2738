#pragma once

#include <string>
#include <string_view>
#include <vector>

/// ROUGE as the PyPI package `rouge_score` 0.1.2 computes it (not the package `rouge`, whose
/// figures differ: rouge_l.h).
namespace restkv::eval {

/// Words of a text: lower case, made of a-z and 0-9, everything else separates. `stem` reduces
/// words of more than 3 characters to their stems (`porter_stem`).
std::vector<std::string> rouge_tokens(std::string_view text, bool stem);

/// F of the words that both texts share, each counted as often as both have it.
double rouge_1(std::string_view prediction, std::string_view reference, bool stem);

/// F of rougeLsum without stemming: lines are sentences; for each line of the reference, the words
/// on a longest common subsequence with any line of the prediction are hits, but no word more often
/// than either text has it.
double rouge_lsum(std::string_view prediction, std::string_view reference);

}  // namespace restkv::eval
