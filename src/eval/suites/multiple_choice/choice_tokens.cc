#include "eval/suites/multiple_choice/choice_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// Bytes of the white space at the end.
size_t trailing_space(std::string_view utf8) {
  const std::u32string decoded = text::decode(utf8);
  const auto end = std::find_if_not(decoded.rbegin(), decoded.rend(), text::is_space);
  return text::encode(std::u32string(end.base(), decoded.end())).size();
}

}  // namespace

ChoiceTokens split_choice(const Tokenizer& tokenizer, std::string_view context,
                          std::string_view continuation) {
  const std::string whole = std::string(context).append(continuation);
  context.remove_suffix(trailing_space(context));
  ChoiceTokens tokens;
  tokens.continuation = tokenizer.encode(whole, false, true);
  tokens.context = tokenizer.encode(context, false, true);
  const size_t cut = std::min(tokens.context.size(), tokens.continuation.size());
  tokens.continuation.erase(tokens.continuation.begin(),
                            tokens.continuation.begin() + static_cast<ptrdiff_t>(cut));
  if (tokens.continuation.empty()) {
    throw Error(ErrorCode::kInput,
                fmt::format("the choice '{}' has no token of its own after its context; begin it "
                            "with a space",
                            continuation));
  }
  if (tokens.context.empty()) tokens.context = {tokenizer.prefix_token()};
  return tokens;
}

}  // namespace restkv::eval
