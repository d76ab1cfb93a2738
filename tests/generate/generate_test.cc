#include "restkv/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "restkv/error.h"
#include "restkv/model.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A model that has learnt one text by heart: wherever it is, the next token of the text is the
/// likeliest, and a fixed one after it.
class GenerateTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    tokenizer = std::make_unique<Tokenizer>(testing::test_model_path());
  }
  static void TearDownTestSuite() { tokenizer.reset(); }

  void learn(const std::string& text) {
    script_ = tokenizer->encode(text, false, false);
    script_.push_back(tokenizer->end_tokens().front());
    at_ = 0;
  }
  std::span<const float> logits() {
    logits_.assign(tokenizer->vocabulary(), 0.0F);
    logits_[static_cast<size_t>(second_)] = 5;
    logits_[static_cast<size_t>(script_[std::min(at_, script_.size() - 1)])] = 10;
    return logits_;
  }
  GenerationResult write(const GenerationOptions& options, Sampler* sampler = nullptr) {
    fed_.clear();
    const auto decode = [&](int32_t token) {
      fed_.push_back(token);
      ++at_;
      return logits();
    };
    return generate(decode, logits(), *tokenizer, options, sampler);
  }
  static std::string refusal(const GenerationOptions& options) {
    return testing::refusal(ErrorCode::kInvalidArgument, [&] { validate(options, 100); });
  }

  static std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int32_t> script_;
  size_t at_ = 0;
  int32_t second_ = 1000;
  std::vector<float> logits_;
  std::vector<int32_t> fed_;
};

std::unique_ptr<Tokenizer> GenerateTest::tokenizer;

TEST_F(GenerateTest, WritesUntilTheModelEnds) {
  learn("Caf\u00E9 \U0001F600 is open.");
  std::string streamed;
  GenerationOptions options;
  options.on_text = [&](std::string_view text) {
    streamed += text;
    return true;
  };
  const GenerationResult result = write(options);
  EXPECT_EQ(result.text, "Caf\u00E9 \U0001F600 is open.");
  EXPECT_EQ(result.bytes, result.text);
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.tokens.size() + 1, script_.size());
  EXPECT_FALSE(result.last_token_is_pending);
  EXPECT_EQ(fed_, result.tokens);
  EXPECT_EQ(result.steps, fed_.size());
}

TEST_F(GenerateTest, EndsAtTheLimitWithoutDecodingTheLastToken) {
  learn("one two three four five");
  GenerationOptions options;
  options.max_tokens = 3;
  const GenerationResult result = write(options);
  EXPECT_EQ(result.text, "one two three");
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_TRUE(result.last_token_is_pending);
  EXPECT_EQ(fed_.size(), 2U);
  at_ = 0;
  options.max_tokens = 0;
  const GenerationResult nothing = write(options);
  EXPECT_EQ(nothing.text, "");
  EXPECT_EQ(nothing.finish_reason, FinishReason::kLength);
  EXPECT_FALSE(nothing.last_token_is_pending);
}

TEST_F(GenerateTest, StopsAcrossTheBordersOfTokens) {
  learn("one two three four");
  std::string streamed;
  GenerationOptions options;
  options.stop = {"never", "o three"};
  options.on_text = [&](std::string_view text) {
    streamed += text;
    return true;
  };
  const GenerationResult result = write(options);
  EXPECT_EQ(result.text, "one tw");
  EXPECT_EQ(streamed, "one tw");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_TRUE(result.last_token_is_pending);

  // The beginning of a stop at the end of a text belongs to it.
  at_ = 0;
  streamed.clear();
  options.stop = {"three five"};
  options.max_tokens = 3;
  EXPECT_EQ(write(options).text, "one two three");
  EXPECT_EQ(streamed, "one two three");
}

TEST_F(GenerateTest, LastTokensArePartOfTheText) {
  learn("one two three");
  GenerationOptions options;
  options.last_tokens = {script_[1]};
  const GenerationResult result = write(options);
  EXPECT_EQ(result.text, "one two");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
}

TEST_F(GenerateTest, NoEndIsAllowedBeforeTheLeastNumberOfTokens) {
  learn("one");
  second_ = tokenizer->encode(" more", false, false)[0];
  GenerationOptions options;
  options.min_tokens = 3;
  EXPECT_EQ(write(options).text, "one more more");
  // Last tokens are ends, too.
  learn("one two");
  options.last_tokens = {script_[0]};
  options.min_tokens = 1;
  options.max_tokens = 1;
  EXPECT_EQ(write(options).text, " more");
}

TEST_F(GenerateTest, BiasesForbidAndFavour) {
  learn("one two");
  const int32_t more = tokenizer->encode(" more", false, false)[0];
  GenerationOptions options;
  options.max_tokens = 2;
  options.logit_bias = {{script_[0], -std::numeric_limits<float>::infinity()}, {more, 7.0F}};
  EXPECT_EQ(write(options).text, " more two");
}

TEST_F(GenerateTest, ThatNothingMayFollowIsSaid) {
  learn("one two");
  GenerationOptions options;
  for (size_t token = 0; token < tokenizer->vocabulary(); ++token) {
    options.logit_bias.emplace_back(static_cast<int32_t>(token),
                                    -std::numeric_limits<float>::infinity());
  }
  EXPECT_THROW((void)write(options), Error);
}

TEST_F(GenerateTest, AConstraintSaysWhatMayFollow) {
  /// No token twice.
  class NoneTwice : public TokenConstraint {
   public:
    void apply(std::span<float> logits) override {
      for (const int32_t token : seen) {
        logits[static_cast<size_t>(token)] = -std::numeric_limits<float>::infinity();
      }
    }
    void accept(int32_t token) override { seen.push_back(token); }
    std::vector<int32_t> seen;
  };
  learn(" one one one");
  second_ = tokenizer->encode(" more", false, false)[0];
  NoneTwice constraint;
  GenerationOptions options;
  options.max_tokens = 2;
  options.constraint = &constraint;
  EXPECT_EQ(write(options).text, " one more");
  EXPECT_EQ(constraint.seen.size(), 2U);
}

TEST_F(GenerateTest, LogprobsAreThoseOfTheModel) {
  learn("one two");
  GenerationOptions options;
  options.logprobs = 2;
  options.logit_bias = {{script_[1], -std::numeric_limits<float>::infinity()}};
  options.max_tokens = 2;
  const GenerationResult result = write(options);
  ASSERT_EQ(result.logprobs.size(), 2U);
  const double rest = static_cast<double>(tokenizer->vocabulary()) - 2;
  const double log_sum = std::log(std::exp(10.0) + std::exp(5.0) + rest);
  EXPECT_EQ(result.logprobs[0].token, script_[0]);
  EXPECT_NEAR(result.logprobs[0].logprob, 10 - log_sum, 1e-9);
  ASSERT_EQ(result.logprobs[0].likeliest.size(), 2U);
  EXPECT_EQ(result.logprobs[0].likeliest[1].first, second_);
  EXPECT_NEAR(result.logprobs[0].likeliest[1].second, 5 - log_sum, 1e-9);
  // Of what was forbidden, too.
  EXPECT_EQ(result.logprobs[1].token, second_);
  EXPECT_EQ(result.logprobs[1].likeliest[0].first, script_[1]);
  EXPECT_NEAR(result.logprobs[1].logprob, 5 - log_sum, 1e-9);
}

TEST_F(GenerateTest, IsCancelledByWhoeverGetsTheText) {
  learn("one two three");
  GenerationOptions options;
  size_t calls = 0;
  options.on_text = [&](std::string_view) { return ++calls < 2; };
  const GenerationResult result = write(options);
  EXPECT_EQ(result.text, "one two");
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(calls, 2U);
  EXPECT_EQ(fed_.size(), 1U);
}

TEST_F(GenerateTest, ASamplerGoesOnWithWhatItRemembers) {
  GenerationOptions options;
  options.max_tokens = 1;
  options.sampling.repeat_penalty = 3;
  Sampler sampler(options.sampling, tokenizer->vocabulary());
  learn(" one");
  EXPECT_EQ(write(options, &sampler).text, " one");
  at_ = 0;
  EXPECT_EQ(write(options, &sampler).tokens, std::vector<int32_t>{second_});
  at_ = 0;
  EXPECT_EQ(write(options).text, " one");
}

TEST_F(GenerateTest, OptionsThatCannotBeUsedAreNamed) {
  GenerationOptions options;
  options.min_tokens = 300;
  EXPECT_THAT(refusal(options), HasSubstr("min_tokens is 300; expected no more than max_tokens"));
  options = {};
  options.stop = {"a", ""};
  EXPECT_THAT(refusal(options), HasSubstr("an empty stop"));
  options = {};
  options.last_tokens = {100};
  EXPECT_THAT(refusal(options), HasSubstr("token 100 of last_tokens is outside"));
  options = {};
  options.logit_bias = {{-1, 1.0F}};
  EXPECT_THAT(refusal(options), HasSubstr("token -1 of logit_bias is outside"));
  options.logit_bias = {{1, std::numeric_limits<float>::quiet_NaN()}};
  EXPECT_THAT(refusal(options), HasSubstr("the bias of token 1 is nan"));
  options = {};
  options.logprobs = 101;
  EXPECT_THAT(refusal(options), HasSubstr("logprobs is 101"));
  options = {};
  options.sampling.top_p = 2;
  EXPECT_THAT(refusal(options), HasSubstr("top_p is 2"));
}

TEST_F(GenerateTest, LogitsOfAnotherVocabularyAreRefused) {
  for (const size_t size : {size_t{0}, size_t{7}, tokenizer->vocabulary() + 1}) {
    Generation generation(*tokenizer, {});
    EXPECT_THROW((void)generation.next(std::vector<float>(size, 1.0F)), Error) << size;
  }
}

TEST_F(GenerateTest, LogitsThatAreNoNumbersAreRefusedWhateverIsAsked) {
  learn("x");
  const std::vector<float> none(tokenizer->vocabulary(), std::numeric_limits<float>::quiet_NaN());
  GenerationOptions biased;
  biased.logit_bias = {{1, 2.0F}};
  GenerationOptions drawn;
  drawn.sampling.temperature = 1;
  for (const GenerationOptions& options : {GenerationOptions(), biased, drawn}) {
    Generation generation(*tokenizer, options);
    EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { (void)generation.next(none); }),
                HasSubstr("is nan"));
    EXPECT_TRUE(generation.result().tokens.empty());
  }
}

TEST_F(GenerateTest, ContinuesASession) {
  testing::TemporaryFolder folder;
  testing::TinyModel tiny;
  tiny.tokenizer = testing::test_model_path();
  tiny.vocabulary = 0;
  tiny.tied = true;
  tiny.write(folder.file("tiny.gguf"));
  const Model model(folder.file("tiny.gguf"));
  Session session(model, {});
  GenerationOptions options;
  options.max_tokens = 5;
  EXPECT_THROW((void)generate(session, *tokenizer, options), Error) << "nothing was read";
  session.append(tokenizer->encode("A story:", true, false));
  Session by_hand = session.fork();
  const size_t read = session.tokens();
  const GenerationResult result = generate(session, *tokenizer, options);
  std::vector<int32_t> expected;
  while (expected.size() < 5) {
    const auto logits = by_hand.logits();
    expected.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
    (void)by_hand.append(expected.back());
  }
  EXPECT_EQ(result.tokens, expected);
  EXPECT_EQ(session.tokens(), read + 4);
}

}  // namespace
}  // namespace restkv
