#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/random.h"

namespace restkv::eval {

/// Endless short stories from a small grammar: text without copyright and varied enough to hide a
/// needle in. Neighbouring sentences come from different templates, so the text repeats less than a
/// noise haystack.
class Stories {
 public:
  /// `random` must outlive this.
  explicit Stories(Random& random) : random_(random) {}

  /// The next sentence, with its full stop and without white space around it.
  std::string next();

 private:
  void new_cast();
  std::string_view word_for(std::string_view slot);
  std::string fill(std::string_view pattern);

  Random& random_;
  size_t count_ = 0;
  size_t template_ = 0;
  std::string_view hero_, friend_, town_;
};

}  // namespace restkv::eval
