#include "generate/grammar.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "generate/gbnf.h"
#include "restkv/tokenizer.h"
#include "support/memory_file.h"
#include "support/raw_gguf.h"
#include "support/refusal.h"
#include "support/small_vocabulary.h"

namespace restkv {
namespace {

using ::restkv::testing::refusal;
using ::testing::StartsWith;

std::string refused(const std::string& grammar) {
  return refusal(ErrorCode::kInvalidArgument, [&] { check_gbnf(grammar); });
}

const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = [] {
    testing::RawGguf gguf;
    gguf.set_string("general.architecture", "llama");
    testing::add_bpe_vocabulary(gguf);
    static const testing::MemoryFile kFile;
    kFile.write(gguf.bytes());
    return Tokenizer(kFile.path());
  }();
  return tokenizer;
}

const std::vector<std::string> kGood{
    "root ::= \"a\"",
    "root ::= (\"a\" | [b-d]+ | [^x])* x?\n# a comment\nx ::= \"\\n\" | .{2,3}\n",
    "root ::= \"\\x41\\u00e9\\U0001F600\\\"\" item{0,5}\nitem ::=\n  \"a\" |\n  \"b\"",
    "root ::= a | \"\"\na ::= \"(\" root \")\"",
    "root ::= \"\u00e9\" [\u4e00-\u9fff]{3,}",
    "root ::= (\"a\"{2,\n3})\n",
    "root ::= x \"a\"\r\nx ::= \"b\"?\r\n"};

TEST(Gbnf, TakesWhatLibllamaTakes) {
  for (const std::string& grammar : kGood) {
    SCOPED_TRACE(grammar);
    EXPECT_NO_THROW(check_gbnf(grammar));
    EXPECT_NO_THROW((void)make_grammar(small_tokenizer(), {.gbnf = grammar}));
  }
}

TEST(Gbnf, RefusesByPlace) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "grammar:1:1: there is no rule 'root'"},
      {"x ::= \"a\"", "grammar:1:10: there is no rule 'root'"},
      {"root = \"a\"", "grammar:1:6: expected ::="},
      {"root ::= \"a", "grammar:1:12: the grammar ends within characters"},
      {"root ::= y\n", "grammar:1:10: there is no rule 'y'"},
      {"root ::= \"a\"\n)", "grammar:2:1: expected the name of a rule"},
      {"root ::= (\"a\"", "grammar:1:14: expected )"},
      {"root ::= \"\\q\"", "grammar:1:11: unknown escape"},
      {"root ::= \"\\x4\"", "grammar:1:11: expected 2 hexadecimal digits"},
      {"root ::= []", "grammar:1:10: a range of no characters"},
      {"root ::= *", "grammar:1:10: nothing stands here"},
      {"root ::= \"a\"{", "grammar:1:14: expected a number"},
      {"root ::= \"a\"{3,2}", "grammar:1:17: expected a number that is not below"},
      {"root ::= \"a\"{3,\n}", "grammar:1:16: expected a number"},
      {"root ::= \"a\"{2001}", "grammar:1:17: more than 2000 repetitions"},
      {"root ::= root \"a\"", "grammar:1:1: left recursion"},
      {"root ::= \"x\" y\ny ::= z\nz ::= y", "grammar:3:1: left recursion"},
      // libllama does not see that `e` may be empty and grows without end.
      {"root ::= e root \"x\" | \"y\"\ne ::= f\nf ::= \"\"", "grammar:1:1: left recursion"},
      {"root ::= \"" + std::string(900, 'a') + "\"{2000}", "grammar:1:1: the grammar unrolls"},
      {std::string("root ::= \"\0\"", 12), "grammar:1:11: has a zero byte"},
      {"root ::= " + std::string(65, '(') + "\"a\"" + std::string(65, ')'),
       "grammar:1:74: more than 64 groups"},
      {"root ::= \"\xff\"", "grammar:1:1: is no UTF-8"}};
  for (const auto& [grammar, message] : cases) {
    SCOPED_TRACE(grammar.substr(0, 80));
    EXPECT_THAT(refused(grammar), StartsWith(message));
  }
}

TEST(Gbnf, RefusesWhatUnrollsWithoutEnd) {
  std::string grammar = "root ::= a0\n";
  for (int i = 0; i < 40; ++i) grammar += fmt::format("a{} ::= a{} | a{}\n", i, i + 1, i + 1);
  grammar += "a40 ::= \"x\"\n";
  EXPECT_THAT(refused(grammar), ::testing::HasSubstr("may begin in more than 512 ways"));
  std::string chain = "root ::= a0\n";
  for (int i = 0; i < 500; ++i) chain += fmt::format("a{} ::= a{}\n", i, i + 1);
  EXPECT_NO_THROW(check_gbnf(chain + "a500 ::= \"x\"\n"));
}

/// What the check takes, libllama takes or refuses in peace.
TEST(Gbnf, MutatedGrammarsEndNothing) {
  Random random(11);
  const std::vector<std::string> parts{
      "\"", "(",    ")",   "|",  "*", "+",  "?", "{2,", "}", "[", "]",
      "a",  "root", "::=", "\n", "^", "\\", "-", "<",   ">", "!"};
  size_t taken = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string grammar = random.pick(kGood);
    for (size_t k = 0, n = 1 + random.below(3); k < n; ++k) {
      const size_t at = random.below(grammar.size() + 1);
      if (random.below(2) == 0) {
        grammar.insert(at, random.pick(parts));
      } else {
        grammar.erase(at, 1 + random.below(3));
      }
    }
    try {
      check_gbnf(grammar);
    } catch (const Error&) {
      continue;
    }
    ++taken;
    try {
      const auto constraint = make_grammar(small_tokenizer(), {.gbnf = grammar});
      std::vector<float> logits(small_tokenizer().vocabulary());
      for (int step = 0; step < 5; ++step) {
        std::ranges::fill(logits, 0.0F);
        constraint->apply(logits);
        const auto best = std::ranges::max_element(logits);
        if (*best != 0) break;
        const auto token = static_cast<int32_t>(best - logits.begin());
        ASSERT_TRUE(constraint->allows(token));
        constraint->accept(token);
        if (small_tokenizer().is_end(token)) break;
      }
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), StartsWith("grammar: "));
    }
  }
  EXPECT_GT(taken, 100U);
}

TEST(Grammar, ForbidsWhatDoesNotFollow) {
  const Tokenizer& tokenizer = small_tokenizer();
  const auto token = [&](const char* text) { return tokenizer.encode(text, false, false).front(); };
  const auto grammar = make_grammar(tokenizer, {.gbnf = "root ::= \"x\" \"y\"*"});
  EXPECT_TRUE(grammar->allows(token("x")));
  EXPECT_FALSE(grammar->allows(token("y")));
  EXPECT_FALSE(grammar->allows(tokenizer.end_tokens().front()));
  std::vector<float> logits(tokenizer.vocabulary(), 1.0F);
  grammar->apply(logits);
  EXPECT_EQ(std::ranges::count(logits, 1.0F), 1);
  EXPECT_EQ(logits[static_cast<size_t>(token("x"))], 1.0F);
  grammar->accept(token("x"));
  EXPECT_TRUE(grammar->allows(token("y")));
  EXPECT_TRUE(grammar->allows(tokenizer.end_tokens().front()));
  EXPECT_THROW(grammar->accept(token("z")), Error);
}

TEST(Grammar, WaitsForItsTrigger) {
  const Tokenizer& tokenizer = small_tokenizer();
  const auto token = [&](const char* text) { return tokenizer.encode(text, false, false).front(); };
  const auto grammar = make_grammar(
      tokenizer, {.gbnf = "root ::= \"!x\"", .lazy = true, .trigger_patterns = {"(!)"}});
  EXPECT_TRUE(grammar->allows(token("q")));
  grammar->accept(token("q"));
  grammar->accept(token("!"));
  EXPECT_FALSE(grammar->allows(token("q")));
  EXPECT_TRUE(grammar->allows(token("x")));
}

}  // namespace
}  // namespace restkv
