#pragma once

#include <string>

namespace restkv {

/// Markdown tables of all methods, allocations and options: the generated part of docs/methods.md.
std::string methods_markdown();

}  // namespace restkv
