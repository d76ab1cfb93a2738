#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace restkv::eval {

/// Replaces each `{name}` in `text` by its value, in one pass. Values are inserted unchanged;
/// braces around other words are kept.
std::string fill_template(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values);

struct FilledPrompt {
  std::string text;
  size_t context_end = 0;  ///< Bytes of `text` up to the end of the value of `{context}`.
};

/// The same for the template of a prompt with a context, behind which the question stands.
FilledPrompt fill_prompt(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values);

}  // namespace restkv::eval
