#include "eval/needle.h"

#include <gtest/gtest.h>

#include <cctype>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv::eval {
namespace {

/// A stand-in for a tokenizer: words, and the punctuation behind them, are tokens.
size_t count_words(std::string_view text) {
  size_t tokens = 0;
  bool in_word = false;
  for (const char c : text) {
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (letter ? !in_word : c != ' ' && c != '\n') ++tokens;
    in_word = letter;
  }
  return tokens;
}

constexpr std::string_view kEssay =
    "It was late.  Nobody came!\n\nWould anyone (ever) come? \"Perhaps.\" She waited a little "
    "more, "
    "and then some; the clock said ten. The end";

NeedleRequest request(Haystack haystack, double depth, size_t tokens, uint64_t seed = 7) {
  return {
      .seed = seed, .depth = depth, .target_tokens = tokens, .haystack = haystack, .essay = kEssay};
}

std::vector<std::string> sentences_of(std::string_view text) {
  std::vector<std::string> sentences(1);
  for (size_t i = 0; i < text.size(); ++i) {
    const bool quote_follows = i + 1 < text.size() && text[i + 1] == '"';
    sentences.back() += text[i];
    const bool ends = std::string_view(".!?").find(text[i]) != std::string_view::npos;
    if (ends && !quote_follows && i + 2 < text.size()) {
      sentences.emplace_back();
      ++i;  // the space
    }
  }
  return sentences;
}

size_t occurrences(std::string_view text, std::string_view part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; ++at) ++n;
  return n;
}

class EveryHaystack : public ::testing::TestWithParam<std::string_view> {
 protected:
  Haystack haystack_ = haystack_from_name(GetParam());
};

TEST_P(EveryHaystack, FitsTheTargetWithinOneSentence) {
  for (const size_t target : {120, 500, 1500, 4000}) {
    for (const double depth : {0.0, 0.33, 1.0}) {
      int calls = 0;
      const auto prompt =
          make_needle_prompt(request(haystack_, depth, target), [&](std::string_view text) {
            ++calls;
            return count_words(text);
          });
      const size_t tokens = count_words(prompt.prompt());
      EXPECT_LE(tokens, target);
      EXPECT_GT(tokens + 40, target) << "the longest sentence (a noise line) has 24 tokens";
      EXPECT_LE(calls, 14);
    }
  }
}

TEST_P(EveryHaystack, HidesTheNeedleOnceAtItsDepth) {
  for (const double depth : {0.0, 0.1, 0.25, 0.5, 0.77, 1.0}) {
    const auto prompt = make_needle_prompt(request(haystack_, depth, 3000), count_words);
    const std::string sentence =
        "One of the special magic numbers for " + prompt.key + " is: " + prompt.answer + ".";
    EXPECT_EQ(prompt.needle(), sentence);
    EXPECT_EQ(occurrences(prompt.prompt(), prompt.answer), 1u);
    EXPECT_EQ(occurrences(prompt.text, sentence), 1u);
    EXPECT_EQ(occurrences(prompt.question, prompt.key), 1u);
    const size_t haystack_begin = prompt.text.find('\n') + 1;
    const auto before = static_cast<double>(prompt.needle_offset - haystack_begin);
    const auto all =
        static_cast<double>(prompt.text.size() - haystack_begin - prompt.needle_length);
    EXPECT_NEAR(before / all, depth, 0.02);
    EXPECT_EQ(depth == 0, prompt.needle_offset == haystack_begin);
    EXPECT_EQ(depth == 1, prompt.text.ends_with(sentence + "\n"));
  }
}

TEST_P(EveryHaystack, DependsOnNothingButTheSeed) {
  const auto make = [&](uint64_t seed) {
    return make_needle_prompt(request(haystack_, 0.5, 1000, seed), count_words).prompt();
  };
  std::set<std::string> different;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string prompt = make(seed);
    EXPECT_EQ(prompt, make(seed));
    different.insert(prompt);
  }
  EXPECT_EQ(different.size(), 20u);
}

TEST_P(EveryHaystack, KeepsTheHaystackWhenOnlyTheDepthChanges) {
  const auto without_needle = [&](double depth) {
    auto prompt = make_needle_prompt(request(haystack_, depth, 1000), count_words);
    // With the needle goes the separator beside it.
    const size_t begin = prompt.needle_offset - (depth == 0 ? 0 : 1);
    return prompt.text.erase(begin, prompt.needle_length + 1);
  };
  EXPECT_EQ(without_needle(0.0), without_needle(0.6));
}

INSTANTIATE_TEST_SUITE_P(Needle, EveryHaystack, ::testing::Values("stories", "noise", "essay"));

TEST(Needle, NoiseIsLaidOutAsInRuler) {
  // Counting bytes, there is room for exactly three noise lines.
  const std::string noise =
      "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";
  const auto bytes = [](std::string_view text) { return text.size(); };
  const auto some = make_needle_prompt(request(Haystack::kNoise, 0.5, 1000), bytes);
  const size_t bare = some.prompt().size() - occurrences(some.text, noise) * noise.size();
  const auto prompt =
      make_needle_prompt(request(Haystack::kNoise, 0.4, bare + 3 * noise.size()), bytes);
  EXPECT_EQ(prompt.text,
            "A special magic number is hidden within the following text. Make sure to memorize it. "
            "I will quiz you about the number afterwards.\n" +
                noise + "One of the special magic numbers for " + prompt.key +
                " is: " + prompt.answer + ".\n" + noise + noise);
  EXPECT_EQ(prompt.question, "What is the special magic number for " + prompt.key +
                                 " mentioned in the provided text?");
  EXPECT_EQ(prompt.answer_prefix,
            " The special magic number for " + prompt.key + " mentioned in the provided text is");
}

TEST(Needle, EssayIsCutBetweenSentencesAndRepeated) {
  const auto prompt = make_needle_prompt(request(Haystack::kEssay, 1, 200), count_words);
  EXPECT_NE(prompt.text.find("It was late. Nobody came! Would anyone (ever) come? \"Perhaps.\" She "
                             "waited a little more, and then some; the clock said ten. The end It "
                             "was late."),
            std::string::npos)
      << prompt.text;
  for (double depth = 0; depth < 1; depth += 0.05) {
    const auto hidden = make_needle_prompt(request(Haystack::kEssay, depth, 200), count_words);
    const std::string before = hidden.text.substr(0, hidden.needle_offset - 1);
    EXPECT_TRUE(before.ends_with("afterwards.") || before.ends_with("late.") ||
                before.ends_with("came!") || before.ends_with("come?") ||
                before.ends_with("Perhaps.\"") || before.ends_with("ten.") ||
                before.ends_with("The end"))
        << before;
  }
}

TEST(Needle, StoriesAreVariedAndFreeOfDigits) {
  for (const uint64_t seed : {1, 2, 3}) {
    auto prompt = make_needle_prompt(request(Haystack::kStories, 1, 8000, seed), count_words);
    std::string story = prompt.text.substr(0, prompt.needle_offset);
    story.erase(0, story.find('\n') + 1);
    EXPECT_EQ(story.find_first_of("0123456789{}"), std::string::npos);
    const auto sentences = sentences_of(story);
    ASSERT_GT(sentences.size(), 300u);
    for (size_t i = 1; i < sentences.size(); ++i) {
      EXPECT_NE(sentences[i], sentences[i - 1]);
      EXPECT_TRUE(std::isupper(static_cast<unsigned char>(sentences[i][0])) ||
                  sentences[i][0] == '"')
          << sentences[i];
    }
    const std::set<std::string> different(sentences.begin(), sentences.end());
    EXPECT_GT(different.size(), sentences.size() * 8 / 10);
  }
}

TEST(Needle, AnswersHaveSevenDigitsAndAreSpread) {
  std::set<std::string> answers;
  std::set<std::string> keys;
  std::set<char> first_digits;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const auto prompt = make_needle_prompt(request(Haystack::kNoise, 0, 100, seed), count_words);
    ASSERT_EQ(prompt.answer.size(), 7u);
    EXPECT_EQ(prompt.answer.find_first_not_of("0123456789"), std::string::npos);
    EXPECT_EQ(occurrences(prompt.key, "-"), 1u);
    answers.insert(prompt.answer);
    keys.insert(prompt.key);
    first_digits.insert(prompt.answer[0]);
  }
  EXPECT_GT(answers.size(), 298u);
  EXPECT_GT(keys.size(), 150u);
  EXPECT_EQ(first_digits.size(), 9u);
}

TEST(Needle, IsTheSameOnEveryPlatform) {
  const auto prompt = make_needle_prompt(request(Haystack::kStories, 1, 110, 42), count_words);
  EXPECT_EQ(prompt.key, "quiet-glacier");
  EXPECT_EQ(prompt.answer, "2741450");
  EXPECT_NE(prompt.text.find("afterwards.\nWhen the air smelled of smoke, Farid stayed at home. "
                             "There was a blue umbrella beside the door of the post office."),
            std::string::npos)
      << prompt.text;
}

void expect_refused(ErrorCode code, const NeedleRequest& bad) {
  EXPECT_NE(restkv::testing::refusal(code, [&] { make_needle_prompt(bad, count_words); }), "");
}

TEST(Needle, RefusesWhatCannotBeMade) {
  for (const double depth : {-0.1, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    expect_refused(ErrorCode::kInvalidArgument, request(Haystack::kNoise, depth, 1000));
  }
  expect_refused(ErrorCode::kInvalidArgument, request(Haystack::kNoise, 0.5, 20));
  expect_refused(ErrorCode::kInvalidArgument, request(Haystack::kNoise, 0.5, 0));
  NeedleRequest empty = request(Haystack::kEssay, 0.5, 1000);
  empty.essay = " \n\t ";
  expect_refused(ErrorCode::kInput, empty);
}

TEST(Needle, KnowsItsHaystacksByName) {
  EXPECT_EQ(haystack_from_name("stories"), Haystack::kStories);
  EXPECT_EQ(haystack_from_name("noise"), Haystack::kNoise);
  EXPECT_EQ(haystack_from_name("essay"), Haystack::kEssay);
  const std::string unknown =
      restkv::testing::refusal(ErrorCode::kInvalidArgument, [] { haystack_from_name("hay"); });
  EXPECT_NE(unknown.find("hay"), std::string::npos);
  EXPECT_NE(unknown.find("stories, noise, essay"), std::string::npos);
}

TEST(AnswerFound, LooksForTheAnswerAnywhereInAnyCase) {
  EXPECT_TRUE(answer_found(" 1234567.", "1234567"));
  EXPECT_TRUE(answer_found("It is BLUE-whale, I think", "blue-Whale"));
  EXPECT_TRUE(answer_found("1234567", "1234567"));
  EXPECT_FALSE(answer_found("123456 7", "1234567"));
  EXPECT_FALSE(answer_found("123456", "1234567"));
  EXPECT_FALSE(answer_found("", "1234567"));
}

}  // namespace
}  // namespace restkv::eval
