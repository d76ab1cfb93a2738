#include "server/openai/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/openai/field_reader.h"

namespace restkv::server {
namespace {

int32_t parse_token_id(const Json& value, const std::string& path, const RequestLimits& limits) {
  const bool is_id = value.is_number_unsigned() && value.get<uint64_t>() < limits.vocabulary;
  if (!is_id) refuse_value(path, value, fmt::format("a token id below {}", limits.vocabulary));
  return value.get<int32_t>();
}

Prompt parse_mixture(const Json& list, const std::string& path, const RequestLimits& limits) {
  Prompt prompt;
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& item = list.at(i);
    if (item.is_string()) {
      prompt.parts.emplace_back(item.text());
      continue;
    }
    const int32_t id = parse_token_id(item, item_path(path, i), limits);
    if (prompt.parts.empty() || prompt.parts.back().index() == 0) {
      prompt.parts.emplace_back(std::vector<int32_t>());
    }
    std::get<1>(prompt.parts.back()).push_back(id);
  }
  return prompt;
}

}  // namespace

std::vector<int32_t> encode(const Prompt& prompt, const Tokenizer& tokenizer, bool add_special) {
  std::vector<int32_t> tokens;
  for (const Prompt::Part& part : prompt.parts) {
    if (const auto* ids = std::get_if<1>(&part)) {
      tokens.insert(tokens.end(), ids->begin(), ids->end());
      continue;
    }
    const bool is_first = add_special && &part == &prompt.parts.front();
    const auto more = tokenizer.encode(std::get<0>(part), is_first, true);
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  return tokens;
}

std::vector<int32_t> parse_token_ids(const Json& list, const std::string& path,
                                     const RequestLimits& limits) {
  std::vector<int32_t> tokens;
  tokens.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& item = list.at(i);
    // The path of an item is only written where it is needed: there may be a million.
    const bool is_id = item.is_number_unsigned() && item.get<uint64_t>() < limits.vocabulary;
    tokens.push_back(is_id ? item.get<int32_t>()
                           : parse_token_id(item, item_path(path, i), limits));
  }
  return tokens;
}

std::vector<Prompt> parse_prompts(const Json& value, const std::string& path, bool mixed,
                                  const RequestLimits& limits) {
  constexpr const char* kWanted = "a text, token ids, or a list of either";
  if (value.is_string()) return {Prompt{{value.text()}}};
  if (!value.is_array() || value.empty()) refuse_value(path, value, kWanted);
  const auto all = [&](bool (Json::*is)() const noexcept) {
    return std::ranges::all_of(value, [&](const Json& item) { return (item.*is)(); });
  };
  if (all(&Json::is_number)) return {Prompt{{parse_token_ids(value, path, limits)}}};
  const auto is_text_or_number = [](const Json& v) { return v.is_string() || v.is_number(); };
  if (mixed && !all(&Json::is_string) && std::ranges::all_of(value, is_text_or_number)) {
    return {parse_mixture(value, path, limits)};
  }
  if (value.size() > limits.prompts) {
    refuse_field(path, fmt::format("'{}' has {} prompts; the limit is {}", path, value.size(),
                                   limits.prompts));
  }
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& item = value.at(i);
    const std::string where = item_path(path, i);
    if (item.is_string()) {
      prompts.push_back(Prompt{{item.text()}});
    } else if (!item.is_array() || item.empty()) {
      refuse_value(where, item, "a text or token ids");
    } else {
      prompts.push_back(mixed ? parse_mixture(item, where, limits)
                              : Prompt{{parse_token_ids(item, where, limits)}});
    }
  }
  return prompts;
}

}  // namespace restkv::server
