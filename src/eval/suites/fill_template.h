#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace restkv::eval {

/// `text` with each `{name}` replaced by its value, in one pass: values are taken as they are, and
/// braces around anything that is not one of the names stay.
std::string fill_template(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values);

}  // namespace restkv::eval
