// The promise of the project on a real model: a needle is still found in a fraction of the cache,
// and after tiles of the prompt's attention were left out.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "eval/needle.h"
#include "restkv/engine.h"
#include "restkv/generate.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

class NeedleAnswers : public ::testing::Test {
 protected:
  eval::NeedlePrompt needle(double depth, size_t tokens) const {
    return eval::make_needle_prompt(
        {.seed = 7, .depth = depth, .target_tokens = tokens, .haystack = eval::Haystack::kNoise},
        [&](std::string_view text) { return tokenizer_.encode(text, false, false).size(); });
  }

  /// The prompt up to where the answer begins.
  std::vector<int32_t> tokens(const eval::NeedlePrompt& needle) const {
    const ChatMessage message{"user", needle.text + needle.question};
    const std::string begun =
        needle.answer_prefix.substr(needle.answer_prefix.find_first_not_of(' '));
    return tokenizer_.encode(tokenizer_.apply_chat_template({&message, 1}) + begun, true, true);
  }

  std::string answer(const std::vector<float>& logits, CacheRequest& request) {
    GenerationOptions options;
    options.max_tokens = 16;
    return generate([&](int32_t token) { return engine_.decode(token, request.cache); }, logits,
                    tokenizer_, options)
        .text;
  }

  static CacheRequest restkv(int budget) {
    CacheRequest request;
    request.options = default_options("restkv");
    request.options.budget = budget;
    return request;
  }

  const std::string path_ = testing::test_model_path();
  const Model model_{path_};
  const Tokenizer tokenizer_{path_};
  Engine engine_{model_};
};

TEST_F(NeedleAnswers, ReStKvFindsTheNeedleInAnEighthOfTheCache) {
  for (const double depth : {0.1, 0.5, 0.9}) {
    const eval::NeedlePrompt prompt = needle(depth, 2000);
    std::vector<CacheRequest> requests = {restkv(256), restkv(512)};
    const auto logits = engine_.prefill(tokens(prompt), requests);
    for (CacheRequest& request : requests) {
      const std::string text = answer(logits, request);
      EXPECT_TRUE(eval::answer_found(text, prompt.answer))
          << "budget " << request.options.budget << ", depth " << depth << ": \"" << text
          << "\" does not contain " << prompt.answer;
    }
  }
}

TEST_F(NeedleAnswers, SparsePromptsKeepTheNeedle) {
  const eval::NeedlePrompt prompt = needle(0.5, 1200);
  for (const char* pattern : {"flexprefill:min_tokens=256", "xattention"}) {
    engine_.set_sparse(parse_sparse(pattern));
    CacheRequest request = restkv(512);
    request.options.kernel = 21;
    const auto logits = engine_.prefill(tokens(prompt), {&request, 1});
    const std::string text = answer(logits, request);
    EXPECT_TRUE(eval::answer_found(text, prompt.answer))
        << pattern << ": \"" << text << "\" does not contain " << prompt.answer;
    EXPECT_LT(engine_.sparse_report().total().density(), 0.8) << pattern;
  }
}

}  // namespace
}  // namespace restkv
