#pragma once

#include <string_view>

namespace restkv::eval {

/// F1 of the words that an answer and a reference share, each counted as often as both have it
/// (SQuAD's F1). Both are normalised first: lower case; the 32 ASCII punctuation characters
/// deleted; the words a, an, the dropped; split at white space. 0 if they share nothing, so also
/// if both are empty. Source: THUDM/LongBench metrics.py.
double qa_f1(std::string_view prediction, std::string_view reference);

/// Whether both are the same words in the same order once normalised as for `qa_f1` (SQuAD's exact
/// match).
bool exact_match(std::string_view prediction, std::string_view reference);

/// `qa_f1` over characters, for Chinese: lower case; ASCII and CJK punctuation and all white space
/// deleted. Source: OpenBMB/InfiniteBench compute_scores.py, whose list of punctuation has gaps
/// that are kept: "《" and the full-width full stop stay.
double qa_f1_chinese(std::string_view prediction, std::string_view reference);

}  // namespace restkv::eval
