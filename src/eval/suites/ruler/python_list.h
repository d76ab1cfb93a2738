#pragma once

#include <string>
#include <vector>

namespace restkv::eval::ruler {

/// The texts as a list printed by Python: ['a', "b's"]. RULER measures some answers in this form.
std::string python_list(const std::vector<std::string>& texts);

}  // namespace restkv::eval::ruler
