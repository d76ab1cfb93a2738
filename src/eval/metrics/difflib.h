#pragma once

#include <string_view>

namespace restkv::eval {

/// Similarity of two strings, 2 * matches / (|a| + |b|), with the matching blocks of Python's
/// difflib.SequenceMatcher(None, a, b): the longest common substring (among equals the one earliest
/// in `a`, then in `b`), then the same to its left and right. If `b` has 200 characters or more,
/// those that are more than about 1 % of it start no match ("autojunk"), which lowers the ratio of
/// long lines. Two empty strings: 1. Characters are code points.
double difflib_ratio(std::u32string_view a, std::u32string_view b);

/// 1 - (insertions and deletions between the strings) / (|a| + |b|), the ratio of the package
/// Levenshtein. Two empty strings: 1.
double indel_ratio(std::u32string_view a, std::u32string_view b);

}  // namespace restkv::eval
