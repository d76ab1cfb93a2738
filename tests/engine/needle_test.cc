// The promise of the project on a real model: a needle is still found in a fraction of the cache.

#include "eval/needle.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/generate.h"
#include "restkv/engine.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

TEST(NeedleTest, ReStKvFindsTheNeedleInAnEighthOfTheCache) {
  const std::string path = testing::test_model_path();
  const Model model(path);
  const Tokenizer tokenizer(path);
  Engine engine(model);
  for (const double depth : {0.1, 0.5, 0.9}) {
    const eval::NeedlePrompt needle = eval::make_needle_prompt(
        {.seed = 7, .depth = depth, .target_tokens = 2000, .haystack = eval::Haystack::kNoise},
        [&](std::string_view text) { return tokenizer.encode(text, false, false).size(); });
    const ChatMessage message{"user", needle.text + needle.question};
    const std::string text =
        tokenizer.apply_chat_template({&message, 1}) +
        needle.answer_prefix.substr(needle.answer_prefix.find_first_not_of(' '));
    const auto tokens = tokenizer.encode(text, true, true);

    std::vector<CacheRequest> requests(2);
    requests[0].options = default_options("restkv");
    requests[0].options.budget = 256;
    requests[1].options = requests[0].options;
    requests[1].options.budget = 512;
    const auto logits = engine.prefill(tokens, requests);
    for (CacheRequest& request : requests) {
      Sampler sampler({}, model.config().vocabulary);
      const Generation answer =
          generate([&](int32_t token) { return engine.decode(token, request.cache); }, tokenizer,
                   logits, sampler, 16);
      EXPECT_TRUE(eval::answer_found(answer.text, needle.answer))
          << "budget " << request.options.budget << ", depth " << depth << ": \"" << answer.text
          << "\" does not contain " << needle.answer;
    }
  }
}

}  // namespace
}  // namespace restkv
