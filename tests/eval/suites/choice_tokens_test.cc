#include "eval/suites/multiple_choice/choice_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/suites/benchmark_data.h"
#include "restkv/error.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using Tokens = std::vector<int32_t>;
using ::testing::ElementsAre;

class ChoiceTokensTest : public ::testing::Test {
 protected:
  Tokenizer tokenizer_{testing::test_model_path()};

  [[nodiscard]] Tokens encode(std::string_view text) const {
    return tokenizer_.encode(text, false, false);
  }
};

TEST_F(ChoiceTokensTest, EqualThoseThatTheHarnessSends) {
  size_t compared = 0;
  for (const Json& request :
       test::read_jsonl(std::filesystem::path(RESTKV_TEST_DATA_DIR) / "lm_eval/requests.jsonl")) {
    for (const Json& prompt : request.at("body").at("prompt")) {
      const auto sent = prompt.get<Tokens>();
      const std::string text = tokenizer_.decode(sent);
      const size_t cut = text.rfind(' ');  // "...\nAnswer:" and " True"
      const ChoiceTokens tokens = split_choice(tokenizer_, text.substr(0, cut), text.substr(cut));
      EXPECT_EQ(tokens.continuation.size(), 1U) << text.substr(cut);
      Tokens whole = tokens.context;
      whole.insert(whole.end(), tokens.continuation.begin(), tokens.continuation.end());
      EXPECT_EQ(whole, sent);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 8U);
}

TEST_F(ChoiceTokensTest, WhiteSpaceAtTheEndMovesToTheContinuation) {
  for (const char* space : {" ", "\n", " \t\n ", "\u3000", "\u00a0 "}) {
    const std::string context = "Question: is it so?\nAnswer:";
    const ChoiceTokens tokens = split_choice(tokenizer_, context + space, "yes");
    EXPECT_EQ(tokens.context, encode(context));
    EXPECT_EQ(tokenizer_.decode(tokens.continuation), space + std::string("yes"));
    EXPECT_EQ(tokens.continuation,
              split_choice(tokenizer_, context, space + std::string("yes")).continuation);
  }
}

TEST_F(ChoiceTokensTest, BothAreEncodedAsOneText) {
  // "in" and "side" are one token together: the cut comes after as many tokens as "in" has.
  ASSERT_EQ(encode(" inside").size(), 1U);
  ASSERT_EQ(encode(" in").size(), 1U);
  const ChoiceTokens tokens = split_choice(tokenizer_, " in", "side the house");
  EXPECT_EQ(tokens.context, encode(" in"));
  EXPECT_EQ(tokens.continuation, encode(" the house"));
  EXPECT_THROW(split_choice(tokenizer_, " in", "side"), Error);
}

TEST_F(ChoiceTokensTest, AnEmptyContextIsTheBeginOfText) {
  const int32_t begin = tokenizer_.encode("<|im_start|>", false, true).at(0);
  EXPECT_EQ(tokenizer_.prefix_token(), begin);
  const ChoiceTokens tokens = split_choice(tokenizer_, "", "Yes it is");
  EXPECT_THAT(tokens.context, ElementsAre(begin));
  EXPECT_EQ(tokens.continuation, encode("Yes it is"));
  const ChoiceTokens blank = split_choice(tokenizer_, " ", "Yes it is");
  EXPECT_THAT(blank.context, ElementsAre(begin));
  EXPECT_EQ(blank.continuation, encode(" Yes it is"));
}

TEST_F(ChoiceTokensTest, TextOfAControlTokenIsThatToken) {
  const ChoiceTokens tokens = split_choice(tokenizer_, "a<|im_end|>", " b");
  Tokens expected = encode("a");
  expected.push_back(tokenizer_.encode("<|im_end|>", false, true).at(0));
  EXPECT_EQ(tokens.context, expected);
  EXPECT_EQ(tokens.continuation, encode(" b"));
}

}  // namespace
}  // namespace restkv::eval
