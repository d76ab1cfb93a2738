// Texts to tokens, against libllama's own tokens where it gives the right ones: long runs of one
// kind of character, begin and end of text, and control tokens that users only write about.

#include "restkv/tokenizer.h"

#include <gguf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/big_stack.h"
#include "base/json.h"
#include "model/pre_token.h"
#include "restkv/error.h"
#include "support/memory_file.h"
#include "support/raw_gguf.h"
#include "support/refusal.h"
#include "support/small_vocabulary.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using namespace std::string_literals;
using ::restkv::testing::MemoryFile;
using ::restkv::testing::RawGguf;
using Tokens = std::vector<int32_t>;

/// One name of every pre-tokenizer that libllama has for byte-level BPE.
constexpr const char* kPreTokenizers[] = {"default",       "llama-bpe",
                                          "deepseek-llm",  "deepseek-coder",
                                          "deepseek-v3",   "falcon",
                                          "gpt-2",         "phi-2",
                                          "jina-es",       "qwen2",
                                          "qwen35",        "stablelm2",
                                          "dbrx",          "smaug-bpe",
                                          "poro-chat",     "bloom",
                                          "glm4",          "viking",
                                          "jais",          "jais-2",
                                          "tekken",        "smollm",
                                          "codeshell",     "exaone",
                                          "exaone4",       "exaone-moe",
                                          "chameleon",     "minerva-7b",
                                          "gpt-4o",        "minimax-m2",
                                          "trillion",      "superbpe",
                                          "tiny_aya",      "granite-embed-multi-97m",
                                          "bailingmoe",    "seed-coder",
                                          "hunyuan",       "granite-docling",
                                          "hunyuan-dense", "hy_v4",
                                          "joyai-llm",     "kimi-k2",
                                          "ufakzeka",      "grok-2",
                                          "afmoe",         "laguna",
                                          "solar-open",    "mellum2",
                                          "midm-2.0",      "lfm2",
                                          "minicpm5",      "spark2_5",
                                          "youtu",         "chatglm-bpe",
                                          "command-r",     "refact",
                                          "starcoder",     "mpt",
                                          "olmo"};

/// What runs are made of: classes of characters, and what some expressions take for one piece.
const std::vector<std::string> kUnits{
    "a",      "A",      "aB",         " ",     "\n",    "-",   "世",         "é",  "e\u0301",
    "\u3000", "\u2003", "\U0001F600", "a ",    " \n",   "-\n", "{\"a\":1},", "<|", "\t",
    "/",      "/\n",    "\n/",        "/\r\n", "\n\n/", " /",  "/ \n",       "\r"};

std::string run_of(const std::string& unit, size_t characters) {
  const auto of_unit = static_cast<size_t>(std::ranges::count_if(
      unit, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
  std::string text;
  for (size_t i = 0; i < characters; i += of_unit) text += unit;
  return text;
}

/// A file with one of the small vocabularies, changed.
class Vocabulary {
 public:
  using Add = void (*)(RawGguf&, const std::vector<std::string>&);

  explicit Vocabulary(Add add, const std::function<void(RawGguf&)>& change = {},
                      const std::vector<std::string>& control = {}) {
    RawGguf gguf;
    gguf.set_string("general.architecture", "llama");
    add(gguf, control);
    if (change) change(gguf);
    file_.write(gguf.bytes());
  }
  static Vocabulary with_pre(const char* pre) {
    return Vocabulary(testing::add_bpe_vocabulary,
                      [&](RawGguf& g) { g.set_string("tokenizer.ggml.pre", pre); });
  }
  [[nodiscard]] std::string path() const { return file_.path(); }
  [[nodiscard]] Tokenizer tokenizer() const { return Tokenizer(file_.path()); }

 private:
  MemoryFile file_;
};

/// libllama without anything around it.
class Llama {
 public:
  explicit Llama(const std::string& path) {
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    model_ = llama_model_load_from_file(path.c_str(), params);
  }
  ~Llama() { llama_model_free(model_); }
  Llama(const Llama&) = delete;
  Llama& operator=(const Llama&) = delete;

  [[nodiscard]] Tokens encode(const std::string& text, bool add_special, bool parse_special) const {
    Tokens tokens(text.size() + 16);
    const int32_t count = llama_tokenize(
        llama_model_get_vocab(model_), text.data(), static_cast<int32_t>(text.size()),
        tokens.data(), static_cast<int32_t>(tokens.size()), add_special, parse_special);
    EXPECT_GE(count, 0);
    tokens.resize(static_cast<size_t>(std::max(count, 0)));
    return tokens;
  }

 private:
  llama_model* model_ = nullptr;
};

TEST(TokenizerRuns, NeedNoStackOfTheCallersAndGiveLibllamasTokens) {
  for (const char* pre : kPreTokenizers) {
    SCOPED_TRACE(pre);
    const Vocabulary vocabulary = Vocabulary::with_pre(pre);
    const Tokenizer tokenizer = vocabulary.tokenizer();
    std::string text = "the hello  1234567 world's 1111111111";
    for (const std::string& unit : kUnits) text += "\n" + run_of(unit, 4000) + ". ";
    Tokens tokens;
    run_on_big_stack(size_t{1} << 20U, [&] { tokens = tokenizer.encode(text, false, false); });
    // libllama takes 320 bytes of stack per character, several times that under AddressSanitizer.
    Tokens expected;
    run_on_big_stack(size_t{64} << 20U,
                     [&] { expected = Llama(vocabulary.path()).encode(text, false, false); });
    EXPECT_EQ(tokens, expected);
    EXPECT_EQ(tokenizer.decode(tokens), text);
  }
}

TEST(TokenizerRuns, MayBeLongerThanAnOrdinaryStackHolds) {
  for (const char* pre : {"tekken", "gpt-4o", "deepseek-llm", "default"}) {
    const Vocabulary vocabulary = Vocabulary::with_pre(pre);
    const std::string text = run_of("-", 60'000) + "\n" + run_of("1", 60'000) + "x." +
                             run_of("/\n", 120'000) + "x." + run_of("\n\n/", 120'000) + "x." +
                             run_of("/\r\n", 120'000);
    EXPECT_EQ(vocabulary.tokenizer().encode(text, false, false).size(), text.size());
  }
}

TEST(TokenizerRuns, ThatNoMemoryWouldHoldAreRefused) {
  const Vocabulary vocabulary = Vocabulary::with_pre("tekken");
  const Tokenizer tokenizer = vocabulary.tokenizer();
  EXPECT_THAT(
      testing::refusal(ErrorCode::kInput,
                       [&] { (void)tokenizer.encode(std::string(5U << 20U, '-'), true, false); }),
      ::testing::HasSubstr("5242880 characters on end"));
}

TEST(TokenizerRuns, PreTokensEndWhereNoExpressionGoesOn) {
  EXPECT_EQ(longest_pre_token(""), 0U);
  EXPECT_EQ(longest_pre_token("word"), 4U);
  EXPECT_EQ(longest_pre_token("one two three"), 13U);  // one expression takes letters and spaces
  EXPECT_EQ(longest_pre_token("one, two,  three."), 7U);
  EXPECT_EQ(longest_pre_token("one\ntwo\n\n three"), 7U);
  EXPECT_EQ(longest_pre_token("1 2 3 4 5 6"), 3U);
  EXPECT_EQ(longest_pre_token("世界 世界"), 5U);
  EXPECT_EQ(longest_pre_token("\n\u3000\n\u3000\n\u2003\n"), 7U);
  EXPECT_EQ(longest_pre_token("a  b  c"), 4U);
}

// Begin and end of text.

const Vocabulary::Add kKinds[] = {testing::add_sentencepiece_vocabulary,
                                  testing::add_bpe_vocabulary};

std::string text_of(const Tokenizer& tokenizer, int32_t token) {
  return tokenizer.piece(token, true);
}

TEST(TokenizerBegin, IsAddedOnceAndAnEndNever) {
  for (const Vocabulary::Add add : kKinds) {
    const Vocabulary vocabulary(add, [](RawGguf& g) {
      g.set_number("tokenizer.ggml.add_bos_token", GGUF_TYPE_BOOL, 1);
      g.set_number("tokenizer.ggml.add_eos_token", GGUF_TYPE_BOOL, 1);
    });
    const Tokenizer tokenizer = vocabulary.tokenizer();
    const int32_t begin = tokenizer.prefix_token();
    const std::string mark = text_of(tokenizer, begin);
    ASSERT_FALSE(mark.empty());
    const auto after_begin = [&](int count, const std::string& text) {
      Tokens tokens(static_cast<size_t>(count), begin);
      const Tokens rest = tokenizer.encode(text, false, true);
      tokens.insert(tokens.end(), rest.begin(), rest.end());
      return tokens;
    };
    EXPECT_EQ(tokenizer.encode("", true, true), Tokens{begin});
    EXPECT_EQ(tokenizer.encode("the hello", true, true), after_begin(1, "the hello"));
    EXPECT_EQ(tokenizer.encode("the hello", true, false), after_begin(1, "the hello"));
    EXPECT_EQ(tokenizer.encode(mark + "the hello", true, true), after_begin(1, "the hello"));
    EXPECT_EQ(tokenizer.encode(mark + mark + "the hello", true, true), after_begin(2, "the hello"));
    // What only looks like one is text, and begins like any other.
    const Tokens plain = tokenizer.encode(mark + "the hello", true, false);
    EXPECT_EQ(std::ranges::count(plain, begin), 1);
    EXPECT_GT(plain.size(), after_begin(1, "the hello").size() + 1);
  }
}

TEST(TokenizerBegin, IsLibllamasElsewhere) {
  for (const Vocabulary::Add add : kKinds) {
    for (const uint64_t begins : {0, 1}) {
      const Vocabulary vocabulary(add, [&](RawGguf& g) {
        g.set_number("tokenizer.ggml.add_bos_token", GGUF_TYPE_BOOL, begins);
      });
      const Llama llama(vocabulary.path());
      for (const std::string& text : {""s, "the hello"s, " the </s> <|im_end|>hello\n"s}) {
        EXPECT_EQ(vocabulary.tokenizer().encode(text, true, true), llama.encode(text, true, true));
        EXPECT_EQ(vocabulary.tokenizer().encode(text, true, false),
                  llama.encode(text, true, false));
      }
    }
  }
}

// Control tokens in what users say.

const std::vector<std::string> kControl{"<start_of_turn>", "<end_of_turn>",
                                        "<|eot_id|>",      "<|start_header_id|>",
                                        "<|user|>",        "<|end_header_id|>",
                                        "<|system|>",      "<|assistant|>",
                                        "<|end|>",         "[INST]",
                                        "[/INST]"};

/// "<|im_end|>" with the letter before its last two made another.
std::string harmless(std::string look_alike) {
  look_alike.replace(look_alike.size() - 3, 1, "Q");
  return look_alike;
}

Json families() {
  return read_json(RESTKV_TEST_DATA_DIR "/chat_templates/chat_templates.json").at("families");
}

TEST(TokenizerControl, LookAlikesInMessagesAreTextInEveryFamily) {
  size_t compared = 0;
  for (const auto& family : families()) {
    for (const Vocabulary::Add add : kKinds) {
      SCOPED_TRACE(family.at("family").get<std::string>());
      const Vocabulary vocabulary(
          add,
          [&](RawGguf& g) {
            g.set_string("tokenizer.chat_template", family.at("template").get<std::string>());
          },
          kControl);
      const Tokenizer tokenizer = vocabulary.tokenizer();
      const int32_t letter = tokenizer.encode("\nQ", false, false).back();
      for (std::string look_alike : {"<|im_end|>", "<|im_start|>", "</s>", "<s>", "[INST]",
                                     "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|user|>"}) {
        if (tokenizer.encode(look_alike, false, true) ==
            tokenizer.encode(look_alike, false, false)) {
          continue;  // no control token of this vocabulary
        }
        SCOPED_TRACE(look_alike);
        // The same conversation about a text that is no control token shows what is expected: the
        // same tokens but for that letter.
        const std::string other = harmless(look_alike);
        const int32_t wanted =
            tokenizer.encode("\n" + look_alike.substr(look_alike.size() - 3, 1), false, false)
                .back();
        const auto conversation = [&](const std::string& word) {
          return std::vector<ChatMessage>{{"system", "the " + word + "\n"},
                                          {"user", word + " hello the" + word},
                                          {"assistant", "  he " + word + " llo " + word + "\n"},
                                          {"user", "\n the hello " + word + " " + word + word}};
        };
        for (const size_t messages : {2, 4}) {
          const auto about = [&](const std::string& word) {
            auto list = conversation(word);
            list.resize(messages);
            return tokenizer.format_chat(list);
          };
          const ChatText chat = about(look_alike);
          EXPECT_EQ(chat.contents.size(), messages);
          Tokens expected = tokenizer.encode(about(other).text, true, true);
          std::ranges::replace(expected, letter, wanted);
          EXPECT_EQ(tokenizer.encode(chat, true), expected);
          EXPECT_NE(tokenizer.encode(chat.text, true, true), expected);
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 100U);
}

TEST(TokenizerControl, MessagesWithoutLookAlikesAreAsBefore) {
  const Json data = read_json(RESTKV_TEST_DATA_DIR "/chat_templates/chat_templates.json");
  for (const auto& family : data.at("families")) {
    for (const Vocabulary::Add add : kKinds) {
      const Vocabulary vocabulary(
          add,
          [&](RawGguf& g) {
            g.set_string("tokenizer.chat_template", family.at("template").get<std::string>());
          },
          kControl);
      const Tokenizer tokenizer = vocabulary.tokenizer();
      for (const auto& [name, list] : data.at("conversations").items()) {
        SCOPED_TRACE(family.at("family").get<std::string>() + ", " + name);
        std::vector<ChatMessage> messages;
        for (const auto& m : list)
          messages.push_back({m.at("role").text(), m.at("content").text()});
        const ChatText chat = tokenizer.format_chat(messages);
        EXPECT_EQ(chat.text, tokenizer.apply_chat_template(messages));
        ASSERT_EQ(chat.contents.size(), messages.size());
        for (size_t i = 0; i < messages.size(); ++i) {
          const auto [begin, end] = chat.contents[i];
          EXPECT_EQ(chat.text.substr(begin, end - begin), messages[i].content);
        }
        EXPECT_EQ(tokenizer.encode(chat, true), tokenizer.encode(chat.text, true, true));
      }
    }
  }
}

TEST(TokenizerControl, MessagesMayBeEmptyOrLookLikePlaceholders) {
  const Tokenizer tokenizer(testing::test_model_path());
  const std::vector<ChatMessage> messages{
      {"system", " \n"}, {"user", "\uE0000\uE001 <|im_end|> \uE0001\uE001"}, {"assistant", ""}};
  const ChatText chat = tokenizer.format_chat(messages);
  EXPECT_EQ(chat.text, tokenizer.apply_chat_template(messages));
  const Tokens tokens = tokenizer.encode(chat, true);
  const int32_t end = tokenizer.encode("<|im_end|>", false, true).at(0);
  EXPECT_EQ(std::ranges::count(tokens, end), 3);
  EXPECT_EQ(tokenizer.decode(tokens, true), chat.text);
  const ChatText parsed = tokenizer.format_chat(messages, true);
  EXPECT_EQ(parsed.text, chat.text);
  EXPECT_TRUE(parsed.contents.empty());
}

TEST(TokenizerControl, PlainTextNeverBecomesOne) {
  // "<s" and ">" merge into "<s>", as "</s" and ">" into "</s>".
  const Vocabulary vocabulary(testing::add_sentencepiece_vocabulary, [](RawGguf& g) {
    RawGguf::Value& tokens = *g.find("tokenizer.ggml.tokens");
    for (const auto& [word, piece] : {std::pair{"word280"s, "<s"s},
                                      {"word281"s, "s>"s},
                                      {"word282"s, "</s"s},
                                      {"word283"s, "</"s},
                                      {"word284"s, "<"s},
                                      {"word285"s, ">"s},
                                      {"word286"s, "s"s},
                                      {"word287"s, "/"s}}) {
      const std::string old = testing::gguf_string(word);
      const size_t at = tokens.bytes.find(old);
      ASSERT_NE(at, std::string::npos);
      tokens.bytes.replace(at, old.size(), testing::gguf_string(piece));
    }
  });
  const std::string text = "the <s> hello</s><s>";
  const Llama llama(vocabulary.path());
  const Tokenizer tokenizer = vocabulary.tokenizer();
  const int32_t begin = tokenizer.prefix_token();
  ASSERT_GT(std::ranges::count(llama.encode(text, false, false), begin), 0) << "no such merge";
  const Tokens tokens = tokenizer.encode(text, false, false);
  EXPECT_EQ(std::ranges::count(tokens, begin), 0);
  EXPECT_EQ(tokenizer.decode(tokens), " " + text);
}

TEST(TokenizerControl, AreRenderedOnRequest) {
  const Tokenizer tokenizer(testing::test_model_path());
  const std::string text = "<|im_start|>user\nhello<|im_end|>\n";
  const Tokens tokens = tokenizer.encode(text, false, true);
  EXPECT_EQ(tokenizer.decode(tokens), "user\nhello\n");
  EXPECT_EQ(tokenizer.decode(tokens, true), text);
}

TEST(Tokenizer, RefusesZeroBytesInMessages) {
  const Tokenizer tokenizer(testing::test_model_path());
  for (const ChatMessage& message :
       {ChatMessage{"user", "before\0after"s}, ChatMessage{"us\0er"s, "hello"}}) {
    for (const bool with_places : {false, true}) {
      try {
        const std::string text = with_places ? tokenizer.format_chat({&message, 1}).text
                                             : tokenizer.apply_chat_template({&message, 1});
        ADD_FAILURE() << text;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
        EXPECT_NE(std::string_view(e.what()).find("zero byte"), std::string_view::npos);
      }
    }
  }
  const std::string text = "before\0after"s;
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false, false)), text);
}

TEST(Tokenizer, RefusesPathsWithZeroBytes) {
  EXPECT_THROW(Tokenizer(testing::test_model_path() + "\0.gguf"s), Error);
}

TEST(Tokenizer, RefusesTextsThatTheVocabularyWouldLoseBytesOf) {
  const Vocabulary vocabulary(testing::add_bpe_vocabulary, [](RawGguf& g) {
    RawGguf::Value& tokens = *g.find("tokenizer.ggml.tokens");
    const std::string letter = testing::gguf_string("\u00E4");  // stands for the byte 0xE4
    const size_t at = tokens.bytes.find(letter);
    ASSERT_NE(at, std::string::npos);
    tokens.bytes.replace(at, letter.size(), testing::gguf_string("??"));
  });
  const Tokenizer tokenizer = vocabulary.tokenizer();
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("the caf\u00E9", false, false)), "the caf\u00E9");
  EXPECT_THAT(testing::refusal(ErrorCode::kInput,
                               [&] {
                                 (void)tokenizer.encode("the \u4E16", false,
                                                        false);  // 0xE4 0xB8 0x96
                               }),
              ::testing::HasSubstr("(0xE4, for instance)"));
}

TEST(Tokenizer, KnowsHowFewTokensATextCanHave) {
  const Tokenizer tokenizer(testing::test_model_path());
  std::string text;
  for (int i = 0; i < 300; ++i) {
    const std::string more[] = {" internationalization", "\n\n\n", "        ", "====", "1", "世"};
    text += more[static_cast<size_t>(i * i) % 6];
    EXPECT_LE(tokenizer.least_tokens(text), tokenizer.encode(text, false, false).size());
  }
  EXPECT_GT(tokenizer.least_tokens(std::string(1U << 20U, 'x')), 10'000U);
}

TEST(Utf8Stream, HandsOutWholeCharactersOnly) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xF0\x9F"), "a");
  EXPECT_EQ(stream.push("\x98"), "");
  EXPECT_EQ(stream.push("\x80z"), "\U0001F600z");
  EXPECT_EQ(stream.push("\xF0\x9F"), "");
  EXPECT_EQ(stream.push("b\xFF"), "\uFFFDb\uFFFD");
}

}  // namespace
}  // namespace restkv
