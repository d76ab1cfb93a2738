#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace restkv::cli {

/// Calls `read` with each line of a file's text that is not empty, without white space around it,
/// and with its number, from 1. What it throws (`Error`) begins with file and line.
void for_each_line(std::string_view text, const std::string& path,
                   const std::function<void(std::string_view line, size_t number)>& read);

}  // namespace restkv::cli
