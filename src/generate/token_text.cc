#include "generate/token_text.h"

#include <algorithm>
#include <utility>

namespace restkv {

TokenText::TokenText(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) longest_stop_ = std::max(longest_stop_, stop.size());
}

std::string TokenText::push(std::string_view bytes) {
  // A stop may have begun in earlier bytes.
  const size_t from =
      bytes_.size() - std::min(bytes_.size(), std::max<size_t>(longest_stop_, 1) - 1);
  bytes_ += bytes;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, bytes_.find(stop, from));
  if (first != std::string::npos) {
    bytes_.resize(first);
    stopped_ = true;
    return end();
  }
  const size_t certain = bytes_.size() - uncertain();
  const std::string_view ready = std::string_view(bytes_).substr(given_, certain - given_);
  given_ = certain;
  return utf8_.push(ready);
}

std::string TokenText::end() {
  const std::string_view rest = std::string_view(bytes_).substr(given_);
  given_ = bytes_.size();
  return utf8_.push(rest);
}

size_t TokenText::uncertain() const {
  size_t most = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, bytes_.size()); n > most; --n) {
      if (std::string_view(bytes_).ends_with(std::string_view(stop).substr(0, n))) most = n;
    }
  }
  return most;
}

}  // namespace restkv
