#pragma once

#include <string_view>
#include <vector>

/// The English word lists of the Python package wonderwords, which RULER draws keys and words from;
/// in the order of its files, embedded when the program is built.
namespace restkv::eval {

const std::vector<std::string_view>& nouns();
const std::vector<std::string_view>& adjectives();
const std::vector<std::string_view>& verbs();

}  // namespace restkv::eval
