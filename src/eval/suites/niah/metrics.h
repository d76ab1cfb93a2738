#pragma once

#include <string_view>

/// The two scores of the ReST-KV code's needle in a haystack.
namespace restkv::eval {

/// Score while it runs, 0 to 10: ten times the F of `rouge_1` with stemming against the whole
/// needle. Not an accuracy: a perfect short answer to the usual needle scores 7.27.
double niah_rouge_score(std::string_view response, std::string_view needle);

/// Score in its heat maps, 0 to 1: share of the expected answer's distinct words (lower case, what
/// stands between white space) that the response has too. 0 if nothing is expected.
double niah_overlap(std::string_view response, std::string_view expected);

}  // namespace restkv::eval
