#pragma once

#include <string>
#include <vector>

namespace restkv::eval::ruler {

/// The texts as Python prints a list of them: ['a', "b's"]. RULER measures some answers that way.
std::string python_list(const std::vector<std::string>& texts);

}  // namespace restkv::eval::ruler
