#include "server/openai/reasoning.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/random.h"

namespace restkv::server {
namespace {

struct Case {
  const char* text;
  const char* reasoning;
  const char* content;
  bool begins_inside = false;
};
constexpr Case kCases[]{
    {"plain", "", "plain"},
    {"", "", ""},
    {"  plain ", "", "  plain "},
    {"<think>\nhm\n</think>\n\nyes", "hm", "yes"},
    {"\n<think>hm</think>yes", "hm", "yes"},
    {"<think></think>yes", "", "yes"},
    {"<think>\n\n</think>\n\nyes\n", "", "yes\n"},
    {"<think>a < b </thin </think>c", "a < b </thin", "c"},
    {"<think>never ends ", "never ends", ""},
    {"<thin", "", "<thin"},
    {"<thing>x", "", "<thing>x"},
    {"x <think>y</think>", "", "x <think>y</think>"},
    {"<think>a</think>b<think>c</think>", "a", "b<think>c</think>"},
    {"hm\n</think>\nyes", "hm", "yes", true},
    {"<think>a\n\nb</think>", "a\n\nb", ""},
};

TEST(Reasoning, IsToldFromTheAnswer) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    const auto parts = split_reasoning(c.text, c.begins_inside);
    EXPECT_EQ(parts.reasoning, c.reasoning);
    EXPECT_EQ(parts.content, c.content);
  }
}

TEST(Reasoning, IsTheSameInAnyPieces) {
  Random random(1);
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    const std::string_view text = c.text;
    for (int round = 0; round < 100; ++round) {
      ReasoningSplitter splitter(c.begins_inside);
      ReasoningSplitter::Parts all;
      const auto add = [&](const ReasoningSplitter::Parts& parts) {
        all.reasoning += parts.reasoning;
        all.content += parts.content;
      };
      for (size_t at = 0; at < text.size();) {
        const size_t size = std::min(1 + random.below(5), text.size() - at);
        add(splitter.push(text.substr(at, size)));
        at += size;
      }
      add(splitter.end());
      ASSERT_EQ(all.reasoning, c.reasoning);
      ASSERT_EQ(all.content, c.content);
    }
  }
}

}  // namespace
}  // namespace restkv::server
