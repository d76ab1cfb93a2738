#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "eval/metrics/qa_f1.h"
#include "eval/metrics/rouge_l.h"
#include "eval/metrics/rouge_score.h"
#include "eval/metrics/text.h"
#include "eval/suites/infinitebench/metrics.h"
#include "eval/suites/longbench/metrics.h"
#include "eval/suites/niah/metrics.h"
#include "eval/suites/ruler/metrics.h"

// Properties that hold for any bytes.
namespace restkv::eval {
namespace {

using Strings = std::vector<std::string>;

struct Metric {
  std::string name;
  std::function<double(const std::string& prediction, const std::string& reference)> score;
  double best = 1;
};

std::vector<Metric> metrics() {
  std::vector<Metric> all = {
      {"qa_f1", [](const auto& p, const auto& r) { return qa_f1(p, r); }},
      {"qa_f1_chinese", [](const auto& p, const auto& r) { return qa_f1_chinese(p, r); }},
      {"rouge_l", [](const auto& p, const auto& r) { return rouge_l(p, r); }},
      {"rouge_1", [](const auto& p, const auto& r) { return rouge_1(p, r, true); }},
      {"rouge_lsum", [](const auto& p, const auto& r) { return rouge_lsum(p, r); }},
      {"niah_rouge_score", [](const auto& p, const auto& r) { return niah_rouge_score(p, r); }, 10},
      {"niah_overlap", [](const auto& p, const auto& r) { return niah_overlap(p, r); }},
      {"classification",
       [](const auto& p, const auto& r) {
         return classification_score(p, r, Strings{r, "a", r, "ab"});
       }},
      {"count", [](const auto& p, const auto& r) { return count_score(p, r); }},
      {"retrieval",
       [](const auto& p, const auto& r) { return retrieval_score(p, r + "Paragraph 1"); }},
      {"code_sim", [](const auto& p, const auto& r) { return code_sim_score(p, r); }},
      {"code_sim with Levenshtein",
       [](const auto& p, const auto& r) {
         return code_sim_score(p, r, CodeSimilarity::kLevenshtein);
       }},
      {"string_match_all",
       [](const auto& p, const auto& r) {
         return string_match_all(p, Strings{r, "a"});
       }},
      {"string_match_part",
       [](const auto& p, const auto& r) {
         return string_match_part(ruler_postprocess(p), Strings{r, "a"});
       }},
  };
  for (const std::string_view task : infinitebench_tasks()) {
    for (const auto scorer : {InfiniteBenchScorer::kRestKv, InfiniteBenchScorer::kOriginal}) {
      all.push_back({std::string(task), [task, scorer](const auto& p, const auto& r) {
                       Json label = {r + "r", "A"};  // never blank
                       if (task == "passkey" || task == "number_string") label = "12";
                       if (task == "code_run") label = 12;
                       if (task == "math_find") label = 1;
                       if (task == "math_calc") label = {1, 2};
                       return infinitebench_score(task, p, label, scorer).value_or(0);
                     }});
    }
  }
  return all;
}

/// Bytes of all kinds, or text of pieces that the metrics treat specially.
std::string random_text(std::mt19937_64& bits) {
  static const std::array<std::string, 24> kPieces = {
      "a", "the ",   "b ",          "ab", ".",           ",",        "\n",   "\n\n",
      " ", "12",     "1.5",         "-3", "Paragraph 1", "`",        "//",   "\u3000",
      "İ", "\u0663", "answer is: ", "A",  "\xFF",        "\xE2\x82", "日本", std::string("\0", 1)};
  std::string text;
  const size_t size = bits() % 60;
  const bool raw = bits() % 3 == 0;
  for (size_t i = 0; i < size; ++i) {
    if (raw) {
      text += static_cast<char>(bits() % 256);
    } else {
      text += kPieces.at(bits() % kPieces.size());
    }
  }
  return text;
}

TEST(AnyBytes, ScoresStayInTheirRange) {
  std::mt19937_64 bits(11);
  const auto all = metrics();
  for (int round = 0; round < 1500; ++round) {
    const std::string prediction = random_text(bits);
    const std::string reference = bits() % 4 == 0 ? prediction : random_text(bits);
    for (const Metric& metric : all) {
      const double score = metric.score(prediction, reference);
      ASSERT_TRUE(score >= 0 && score <= metric.best) << metric.name << " " << score;
    }
  }
}

TEST(AnyBytes, InvalidOnesCountAsReplacementCharacters) {
  std::mt19937_64 bits(12);
  const auto all = metrics();
  const auto repaired = [](const std::string& text) { return text::encode(text::decode(text)); };
  for (int round = 0; round < 500; ++round) {
    const std::string prediction = random_text(bits);
    // Labels come from JSON, which has no invalid bytes.
    const std::string reference = repaired(random_text(bits));
    for (const Metric& metric : all) {
      ASSERT_EQ(metric.score(prediction, reference), metric.score(repaired(prediction), reference))
          << metric.name;
    }
  }
}

TEST(AnyBytes, EqualTextsScoreBest) {
  std::mt19937_64 bits(13);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random_text(bits);
    EXPECT_EQ(fuzz_ratio(text, text), 100);
    EXPECT_EQ(string_match_all(text, Strings{text}), 1);
    for (const double f : {qa_f1(text, text), rouge_1(text, text, true), rouge_lsum(text, text)}) {
      EXPECT_TRUE(f == 0 || f > 1 - 1e-12) << f;  // 0 without words.
    }
    const double f = rouge_l(text, text);
    EXPECT_TRUE(f == 0 || std::abs(f - 1) < 1e-8) << f;
  }
}

TEST(LongTexts, AreScoredInReasonableTime) {
  std::mt19937_64 bits(14);
  std::string words;
  for (int i = 0; i < 20000; ++i) words += static_cast<char>('a' + bits() % 20) + std::string(" ");
  std::string sentences = words;
  for (size_t i = 39; i < sentences.size(); i += 40) sentences[i] = '.';
  EXPECT_GT(rouge_l(words, sentences), 0.9);
  EXPECT_GT(rouge_lsum(words, sentences), 0.9);
  EXPECT_GT(qa_f1(words, sentences), 0);
  EXPECT_GT(fuzz_ratio(words, sentences, CodeSimilarity::kLevenshtein), 90);

  std::u32string characters;
  for (int i = 0; i < 20000; ++i) characters += static_cast<char32_t>(0x4E00 + bits() % 6000);
  std::u32string changed = characters;
  for (size_t i = 19; i < changed.size(); i += 20) changed[i] = U'x';
  EXPECT_EQ(fuzz_ratio(text::encode(changed), text::encode(characters)), 95);
  const std::string same(40000, 'a');  // Popular characters start no match.
  EXPECT_EQ(fuzz_ratio("b" + same, same), 0);
}

}  // namespace
}  // namespace restkv::eval
