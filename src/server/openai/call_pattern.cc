#include "server/openai/call_pattern.h"

namespace restkv::server {

size_t CallPattern::add(size_t from, char c) {
  const auto [place, is_new] = nodes_[from].next.emplace(c, nodes_.size());
  const size_t to = place->second;
  if (is_new) nodes_.emplace_back();
  return to;
}

size_t CallPattern::add_text(size_t from, std::string_view text) {
  for (const char c : text) from = add(from, c);
  return from;
}

size_t CallPattern::add_spaced(size_t from, char c) {
  nodes_[from].skips_space = true;
  return add(from, c);
}

CallPattern::CallPattern(const std::vector<std::string>& names) {
  nodes_.emplace_back();
  size_t at = add_spaced(0, '{');
  at = add_text(add_spaced(at, '"'), "name\"");
  at = name_ = add_spaced(add_spaced(at, ':'), '"');
  std::vector<size_t> ends;
  for (size_t i = 0; i < names.size(); ++i) {
    const size_t end = add(add_text(at, names[i]), '"');
    if (nodes_[end].tools.empty()) ends.push_back(end);
    nodes_[end].tools.push_back(i);
  }
  if (ends.empty()) return;
  // What follows is the same for all.
  const size_t rest = add_spaced(ends.front(), ',');
  for (const size_t end : ends) {
    nodes_[end].skips_space = true;
    nodes_[end].next.emplace(',', rest);
  }
  at = add_spaced(add_text(add_spaced(rest, '"'), "arguments\""), ':');
  nodes_[at].skips_space = true;
  nodes_[at].is_end = true;
}

}  // namespace restkv::server
