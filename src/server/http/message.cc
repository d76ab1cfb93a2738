#include "server/http/message.h"

#include <algorithm>

namespace restkv::server {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

const std::string* find_field(const Fields& fields, std::string_view name) {
  for (const auto& [key, value] : fields) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace

bool same_but_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

const std::string* Headers::find(std::string_view name) const {
  for (const auto& [key, value] : fields_) {
    if (same_but_case(key, name)) return &value;
  }
  return nullptr;
}

std::string_view Headers::value(std::string_view name) const {
  const std::string* found = find(name);
  return found == nullptr ? std::string_view{} : *found;
}

size_t Headers::count(std::string_view name) const {
  return static_cast<size_t>(std::ranges::count_if(
      fields_, [&](const auto& field) { return same_but_case(field.first, name); }));
}

void Headers::add(std::string name, std::string value) {
  fields_.emplace_back(std::move(name), std::move(value));
}

void Headers::set(std::string_view name, std::string value) {
  std::erase_if(fields_, [&](const auto& field) { return same_but_case(field.first, name); });
  add(std::string(name), std::move(value));
}

const std::string& HttpRequest::parameter(std::string_view name) const {
  static const std::string none;
  const std::string* found = find_field(parameters, name);
  return found == nullptr ? none : *found;
}

const std::string* HttpRequest::query_value(std::string_view name) const {
  return find_field(query, name);
}

}  // namespace restkv::server
