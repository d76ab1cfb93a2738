#include "restkv/repeat.h"

#include <algorithm>

namespace restkv {
namespace {

void append(std::vector<int32_t>& to, std::span<const int32_t> tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

RepeatPass repeat_pass(const CompressionOptions& options) {
  return {.chunk = repeat_chunk(options), .narrow = repeats_narrowly(options)};
}

std::vector<RepeatFeed> repeat_feeds(std::span<const int32_t> tokens, const RepeatPass& pass,
                                     const RepeatPrompt& prompt, bool begins) {
  const size_t chunk = pass.chunk;
  const auto text = begins ? std::ranges::mismatch(tokens, prompt.prefix).in1 : tokens.begin();
  std::vector<RepeatFeed> feeds;
  for (auto begin = static_cast<size_t>(text - tokens.begin()); begin < tokens.size();
       begin += chunk) {
    RepeatFeed& feed = feeds.emplace_back();
    feed.begin = begin;
    feed.end = std::min(tokens.size(), begin + chunk);
    feed.narrow = pass.narrow;
    if (feeds.size() == 1) {
      append(feed.tokens, prompt.first);
    } else {
      append(feed.tokens, prompt.later);
      const size_t overlap = std::min(kRepeatOverlap, chunk);
      append(feed.tokens, tokens.subspan(begin - overlap, overlap));
    }
    append(feed.tokens, prompt.answer);
    append(feed.tokens, tokens.subspan(begin, feed.end - begin));
  }
  return feeds;
}

size_t longest_feed(size_t n, size_t chunk, const RepeatPrompt& prompt) {
  return std::max(prompt.first.size(), prompt.later.size() + kRepeatOverlap) +
         prompt.answer.size() + std::min(n, chunk);
}

}  // namespace restkv
