#pragma once

#include <string>
#include <string_view>

namespace restkv::eval {

/// Stem of a lower-case ASCII word by Porter's algorithm with the extensions of NLTK's
/// PorterStemmer in its default mode. Words of up to two characters are unchanged; digits count as
/// consonants. Source: Porter, "An algorithm for suffix stripping", 1980; nltk.stem.porter.
std::string porter_stem(std::string_view word);

}  // namespace restkv::eval
