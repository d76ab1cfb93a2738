#pragma once

#include <string>

namespace restkv {

/// Tables of all methods, allocations and options in Markdown, made from their tables in the code:
/// the part of docs/methods.md that must not be written by hand.
std::string methods_markdown();

}  // namespace restkv
