// Vocabularies that libllama would answer by ending the process: each is refused by name.

#include "model/vocabulary.h"

#include <gguf.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "restkv/error.h"
#include "restkv/tokenizer.h"
#include "support/memory_file.h"
#include "support/raw_gguf.h"
#include "support/small_vocabulary.h"

namespace restkv {
namespace {

using ::restkv::testing::MemoryFile;
using ::restkv::testing::RawGguf;

/// The message about a small vocabulary that `change` made wrong; "" if it loads.
std::string error_after(const std::function<void(RawGguf&)>& change) {
  RawGguf gguf;
  gguf.set_string("general.architecture", "llama");
  testing::add_sentencepiece_vocabulary(gguf);
  change(gguf);
  const MemoryFile file;
  file.write(gguf.bytes());
  try {
    const Tokenizer tokenizer(file.path());
    return "";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(file.path()), std::string::npos) << e.what();
    return e.what();
  }
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

void set_tokens(RawGguf& gguf, const std::vector<std::string>& tokens) {
  gguf.set_strings("tokenizer.ggml.tokens", tokens);
  std::erase_if(gguf.values, [](const RawGguf::Value& value) {
    return value.key == "tokenizer.ggml.scores" || value.key == "tokenizer.ggml.token_type";
  });
}

TEST(Vocabulary, LoadsWhatTheOtherTestsChange) {
  EXPECT_EQ(error_after([](RawGguf&) {}), "");
  EXPECT_EQ(error_after([](RawGguf& g) { testing::add_bpe_vocabulary(g); }), "");
}

TEST(Vocabulary, RefusesTokensThatAreThereTwice) {
  expect_contains(error_after([](RawGguf& g) {
                    set_tokens(g, {"a", "b", "c", "b"});
                  }),
                  "lists 'b' twice, as tokens 1 and 3");
  // libllama reads up to the first zero byte.
  expect_contains(error_after([](RawGguf& g) {
                    set_tokens(g, {"a", std::string("b\0x", 3), std::string("b\0y", 3)});
                  }),
                  "lists 'b' twice, as tokens 1 and 2");
  expect_contains(error_after([](RawGguf& g) {
                    set_tokens(g, {"[EMPTY_1]", ""});
                  }),
                  "lists '[EMPTY_1]' twice");
}

TEST(Vocabulary, RefusesOtherKinds) {
  for (const char* model : {"bert", "t5", "none", "rwkv", ""}) {
    expect_contains(
        error_after([&](RawGguf& g) { g.set_string("tokenizer.ggml.model", model); }),
        std::string("the tokenizer '") + model + "' ('tokenizer.ggml.model') is not supported");
  }
}

TEST(Vocabulary, RefusesPreTokenizersOfOtherKinds) {
  for (const char* pre : {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"}) {
    expect_contains(error_after([&](RawGguf& g) {
                      testing::add_bpe_vocabulary(g);
                      g.set_string("tokenizer.ggml.pre", pre);
                    }),
                    std::string("the pre-tokenizer '") + pre + "'");
    // SentencePiece has none and takes no notice.
    EXPECT_EQ(error_after([&](RawGguf& g) { g.set_string("tokenizer.ggml.pre", pre); }), "");
  }
}

TEST(Vocabulary, RefusesWhatIsMissingOrNoText) {
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.tokens"}) {
    expect_contains(error_after([&](RawGguf& g) {
                      std::erase_if(g.values, [&](const auto& v) { return v.key == key; });
                    }),
                    std::string("'") + key + "' is missing");
    expect_contains(error_after([&](RawGguf& g) { g.set_number(key, GGUF_TYPE_UINT32, 1); }), key);
  }
  expect_contains(error_after([](RawGguf& g) { set_tokens(g, {}); }), "has 0 tokens");
  expect_contains(
      error_after([](RawGguf& g) { g.set_number("general.architecture", GGUF_TYPE_UINT32, 1); }),
      "'general.architecture' is not a string");
}

TEST(Vocabulary, RefusesBytesThatAreNoBytes) {
  expect_contains(error_after([](RawGguf& g) {
                    set_tokens(g, {"a", "<0x0A>", "b"});
                    g.set_array("tokenizer.ggml.token_type", GGUF_TYPE_INT32, 3,
                                testing::little_endian(1, 4) + testing::little_endian(6, 4) +
                                    testing::little_endian(6, 4));
                  }),
                  "calls token 2 a byte, but it is 'b'");
}

TEST(Vocabulary, RefusesABeginningThatIsNotThere) {
  expect_contains(
      error_after([](RawGguf& g) {
        testing::add_bpe_vocabulary(g);
        set_tokens(g, {"a", "b"});  // the default beginning, token 11, is not among them
        std::erase_if(g.values,
                      [](const auto& v) { return v.key == "tokenizer.ggml.bos_token_id"; });
        g.remove("tokenizer.ggml.eos_token_id");
        g.set_number("tokenizer.ggml.add_bos_token", GGUF_TYPE_BOOL, 1);
      }),
      "'tokenizer.ggml.add_bos_token' asks for a token");
}

TEST(Vocabulary, RefusesTokensBeyondTheList) {
  for (const std::string name : {"bos", "eos", "eot", "eom"}) {
    const std::string key = "tokenizer.ggml." + name + "_token_id";
    expect_contains(error_after([&](RawGguf& g) { g.set_number(key, GGUF_TYPE_UINT32, 999'999); }),
                    "'" + key + "' is 999999, but 'tokenizer.ggml.tokens' has ");
  }
}

}  // namespace
}  // namespace restkv
