#include "eval/suites/fill_template.h"

#include <algorithm>

namespace restkv::eval {

FilledPrompt fill_prompt(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  FilledPrompt prompt;
  std::string& filled = prompt.text;
  while (!text.empty()) {
    const size_t open = std::min(text.find('{'), text.size());
    filled += text.substr(0, open);
    text.remove_prefix(open);
    const auto value = std::ranges::find_if(values, [&](const auto& entry) {
      const std::string_view name = entry.first;
      return text.size() >= name.size() + 2 && text.substr(1, name.size()) == name &&
             text[name.size() + 1] == '}';
    });
    if (value != values.end()) {
      filled += value->second;
      if (value->first == "context") prompt.context_end = filled.size();
      text.remove_prefix(value->first.size() + 2);
    } else if (!text.empty()) {
      filled += '{';
      text.remove_prefix(1);
    }
  }
  return prompt;
}

std::string fill_template(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  return fill_prompt(text, values).text;
}

}  // namespace restkv::eval
