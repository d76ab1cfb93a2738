#pragma once

#include <cstddef>
#include <string_view>

namespace restkv {

/// Throws `Error` (kInvalidArgument) "grammar:line:column: reason" if a text is no grammar in GBNF
/// with a rule `root`, or one that libllama cannot use: it tells nobody why it refuses a grammar,
/// and runs for ever, or out of memory, with some. Refused are left recursion (also where what
/// stands to the left may be empty), more than 64 groups within each other, repetitions of more
/// than 2,000, grammars that unroll to more than a million elements, and rules that may begin in
/// more than 512 ways.
void check_gbnf(std::string_view grammar);

}  // namespace restkv
