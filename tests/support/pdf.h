#pragma once

#include <string>
#include <vector>

namespace restkv::testing {

/// A PDF document with one line of ASCII on each page.
std::string make_pdf(const std::vector<std::string>& pages);

}  // namespace restkv::testing
