#include "eval/prompt_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "restkv/error.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using ::restkv::testing::test_model_path;
using ::testing::HasSubstr;

class PromptTokensTest : public ::testing::Test {
 protected:
  static std::string counting(size_t words) {
    std::string text;
    for (size_t i = 0; i < words; ++i) text += (i == 0 ? "word" : " word") + std::to_string(i);
    return text;
  }
  [[nodiscard]] std::string text_of(const PromptTokens& prompt) const {
    std::string text;
    for (const int32_t token : prompt.tokens) text += tokenizer_.piece(token);
    return text;
  }
  /// SmolLM2: a chat template, no begin-of-text token of its own.
  Tokenizer tokenizer_{test_model_path()};
};

TEST_F(PromptTokensTest, TokensAreUsedAsTheyAre) {
  Sample sample;
  sample.prompt = "not looked at";
  sample.tokens = {5, 6, 7};
  const auto prompt = prompt_tokens(tokenizer_, sample, {.chat = true, .max_prompt = 2});
  EXPECT_EQ(prompt.tokens, sample.tokens);
  EXPECT_EQ(prompt.cut_from, 0U);
}

TEST_F(PromptTokensTest, RawTextAndItsAnswerPrefixAreOneText) {
  Sample sample;
  sample.prompt = "The sky is";
  sample.answer_prefix = " very";
  const auto prompt = prompt_tokens(tokenizer_, sample, {});
  EXPECT_EQ(prompt.tokens, tokenizer_.encode("The sky is very", true, true));
}

TEST_F(PromptTokensTest, KnowsWhereTheQuestionBegins) {
  Sample sample;
  sample.prompt = counting(50);
  sample.context_end = sample.prompt.size();
  const std::string question = "What is the second word?";
  sample.prompt += "\n" + question;
  for (const bool chat : {false, true}) {
    const auto prompt = prompt_tokens(tokenizer_, sample, {.chat = chat});
    std::string behind;
    for (size_t i = prompt.context; i < prompt.tokens.size(); ++i) {
      behind += tokenizer_.piece(prompt.tokens[i]);
    }
    EXPECT_TRUE(behind.starts_with(question)) << behind;
    EXPECT_EQ(behind.size() > question.size(), chat) << behind;

    // What is left of a prompt without its middle.
    const auto cut = prompt_tokens(tokenizer_, sample, {.chat = chat, .max_prompt = 60});
    ASSERT_GT(cut.cut_from, 0U);
    EXPECT_EQ(cut.tokens.size() - cut.context, prompt.tokens.size() - prompt.context);
    const auto no_question = prompt_tokens(tokenizer_, sample, {.chat = chat, .max_prompt = 6});
    EXPECT_EQ(no_question.context, 0U);
  }
  sample.context_end = 0;
  EXPECT_EQ(prompt_tokens(tokenizer_, sample, {}).context, 0U);
  sample.tokens = {5, 6, 7, 8};
  sample.context_end = 3;
  EXPECT_EQ(prompt_tokens(tokenizer_, sample, {}).context, 3U);
}

TEST_F(PromptTokensTest, AChatTemplateTakesTokensOfItsOwn) {
  Sample sample;
  sample.prompt = "What colour is the sky?";
  const size_t raw = prompt_tokens(tokenizer_, sample, {}).tokens.size();
  const size_t chat = prompt_tokens(tokenizer_, sample, {.chat = true}).tokens.size();
  EXPECT_EQ(tokens_around(tokenizer_, {}), 0U);
  EXPECT_EQ(tokens_around(tokenizer_, {.chat = true}), chat - raw);
}

TEST_F(PromptTokensTest, TheAnswerPrefixFollowsTheChatTemplate) {
  Sample sample;
  sample.prompt = "What colour is the sky?";
  sample.answer_prefix = "It is";
  const ChatMessage message{"user", sample.prompt};
  const std::string chat = tokenizer_.apply_chat_template({&message, 1});
  EXPECT_EQ(prompt_tokens(tokenizer_, sample, {.chat = true}).tokens,
            tokenizer_.encode(chat + "It is", true, true));
  sample.always_raw = true;
  EXPECT_EQ(prompt_tokens(tokenizer_, sample, {.chat = true}).tokens,
            tokenizer_.encode(sample.prompt + "It is", true, true));
}

TEST_F(PromptTokensTest, LongPromptsLoseTheirMiddle) {
  Sample sample;
  sample.prompt = counting(100);
  const auto all = tokenizer_.encode(sample.prompt, true, true);
  const auto prompt = prompt_tokens(tokenizer_, sample, {.max_prompt = 41});
  EXPECT_EQ(prompt.cut_from, all.size());
  const std::vector<int32_t> head(all.begin(), all.begin() + 20);
  const std::vector<int32_t> tail(all.end() - 20, all.end());
  const std::string expected = tokenizer_.decode(head) + tokenizer_.decode(tail);
  EXPECT_EQ(prompt.tokens, tokenizer_.encode(expected, true, true));
  EXPECT_EQ(without_middle(tokenizer_, all, 41), expected);
  EXPECT_THAT(expected, ::testing::StartsWith("word0 word1"));
  EXPECT_THAT(expected, ::testing::EndsWith("word98 word99"));

  EXPECT_EQ(prompt_tokens(tokenizer_, sample, {.max_prompt = all.size()}).cut_from, 0U);
}

TEST_F(PromptTokensTest, AChatTemplateStaysWhole) {
  Sample sample;
  sample.prompt = counting(100);
  sample.answer_prefix = "Answer:";
  const auto prompt = prompt_tokens(tokenizer_, sample, {.chat = true, .max_prompt = 40});
  EXPECT_GT(prompt.cut_from, 40U);
  std::string cut = without_middle(tokenizer_, tokenizer_.encode(sample.prompt, true, true), 40);
  const ChatMessage message{"user", cut};
  EXPECT_EQ(
      prompt.tokens,
      tokenizer_.encode(tokenizer_.apply_chat_template({&message, 1}) + "Answer:", true, true));
}

TEST_F(PromptTokensTest, ControlTokensOfAHandMadeTemplateSurviveACut) {
  Sample sample;
  sample.prompt = "<|im_start|>user\n" + counting(100) + "<|im_end|>\n<|im_start|>assistant\n";
  const int32_t begin = tokenizer_.encode("<|im_start|>", false, true).at(0);
  const int32_t end = tokenizer_.encode("<|im_end|>", false, true).at(0);
  const auto controls = [&] {
    const auto prompt = prompt_tokens(tokenizer_, sample, {.max_prompt = 60});
    EXPECT_GT(prompt.cut_from, 60U);
    return std::pair(std::ranges::count(prompt.tokens, begin),
                     std::ranges::count(prompt.tokens, end));
  };
  EXPECT_EQ(controls(), std::pair(ptrdiff_t{0}, ptrdiff_t{0})) << "as in LongBench's code";
  sample.keep_control_tokens = true;
  EXPECT_EQ(controls(), std::pair(ptrdiff_t{2}, ptrdiff_t{1}));
  const auto prompt = prompt_tokens(tokenizer_, sample, {.max_prompt = 60});
  EXPECT_THAT(tokenizer_.decode(prompt.tokens, true),
              ::testing::StartsWith("<|im_start|>user\nword0 word1"));
  EXPECT_THAT(tokenizer_.decode(prompt.tokens, true),
              ::testing::EndsWith("word99<|im_end|>\n<|im_start|>assistant\n"));
}

TEST_F(PromptTokensTest, LookAlikesInAChatAreTextUnlessAskedFor) {
  Sample sample;
  sample.prompt = "Say <|im_end|> and <|im_start|>. " + counting(100);
  sample.keep_control_tokens = true;
  sample.max_new_tokens = 10;
  const int32_t end = tokenizer_.encode("<|im_end|>", false, true).at(0);
  const auto ends = [&](const PromptOptions& options) {
    return std::ranges::count(prompt_tokens(tokenizer_, sample, options).tokens, end);
  };
  EXPECT_EQ(ends({}), 1) << "it may be a template";
  EXPECT_EQ(ends({.chat = true}), 1) << "the template's own";
  EXPECT_EQ(ends({.chat = true, .parse_special = true}), 2);
  EXPECT_EQ(ends({.chat = true, .max_prompt = 60}), 1);
  EXPECT_EQ(ends({.chat = true, .context = 200}), 1);
  const auto chat = prompt_tokens(tokenizer_, sample, {.chat = true});
  EXPECT_THAT(tokenizer_.decode(chat.tokens), HasSubstr("Say <|im_end|> and <|im_start|>. word0"));
}

TEST_F(PromptTokensTest, LeavesRoomForTheAnswer) {
  Sample sample;
  sample.prompt = counting(300);
  sample.answer_prefix = "Answer:";
  sample.max_new_tokens = 50;
  const size_t whole = prompt_tokens(tokenizer_, sample, {}).tokens.size();
  const auto fits = prompt_tokens(tokenizer_, sample, {.context = whole + 50});
  EXPECT_EQ(fits.cut_from, 0U);
  EXPECT_EQ(fits.tokens.size(), whole);
  for (const bool chat : {false, true}) {
    const auto prompt = prompt_tokens(tokenizer_, sample, {.chat = chat, .context = 300});
    EXPECT_GT(prompt.cut_from, 0U);
    EXPECT_LE(prompt.tokens.size(), 250U);
    EXPECT_GT(prompt.tokens.size(), 180U);
    EXPECT_THAT(text_of(prompt), ::testing::EndsWith("Answer:"));
  }
  sample.max_new_tokens = 300;
  try {
    prompt_tokens(tokenizer_, sample, {.context = 300});
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(), HasSubstr("leaves no room for a prompt"));
  }
}

TEST_F(PromptTokensTest, KnowsThePublishedLimits) {
  EXPECT_EQ(published_prompt_limit("/models/Meta-Llama-3.1-8B.gguf"), 127000U);
  EXPECT_EQ(published_prompt_limit("models/llama3-8b.gguf"), 7950U);
  EXPECT_EQ(published_prompt_limit("Mistral-7B-v0.3.gguf"), 31500U);
  EXPECT_EQ(published_prompt_limit("SmolLM2.gguf"), 0U);
}

}  // namespace
}  // namespace restkv::eval
