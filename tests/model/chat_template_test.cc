// Conversations as libllama formats them against the template text that comes with the model,
// rendered as its authors' library does (tests/data/chat_templates).

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "restkv/error.h"
#include "restkv/tokenizer.h"
#include "support/memory_file.h"
#include "support/raw_gguf.h"
#include "support/small_vocabulary.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::MemoryFile;
using ::restkv::testing::RawGguf;

Json fixture() { return read_json(RESTKV_TEST_DATA_DIR "/chat_templates/chat_templates.json"); }

/// A file with a small vocabulary and this template; none if it is empty.
std::string file_with_template(const std::string& text) {
  RawGguf gguf;
  gguf.set_string("general.architecture", "llama");
  testing::add_sentencepiece_vocabulary(gguf);
  std::erase_if(gguf.values, [](const auto& v) { return v.key == "tokenizer.chat_template"; });
  if (!text.empty()) gguf.set_string("tokenizer.chat_template", text);
  return gguf.bytes();
}

std::vector<ChatMessage> messages_of(const Json& list) {
  std::vector<ChatMessage> messages;
  for (const auto& m : list) messages.push_back({m.at("role").text(), m.at("content").text()});
  return messages;
}

/// Where libllama knowingly does otherwise than the template: a model's default system message is
/// left out, Llama 2's later turns begin without <s> and its answers have no spaces around them,
/// Mistral v0.3 has the system message in the first turn rather than the last.
const std::map<std::string, std::map<std::string, std::string>>& deviations() {
  static const std::map<std::string, std::map<std::string, std::string>> kList{
      {"llama2",
       {{"three messages",
         "[INST] What is a cache? [/INST]A place to keep what is needed again.</s>"
         "[INST] How small can it be? [/INST]"},
        {"three messages after a system message",
         "[INST] <<SYS>>\nAnswer in one sentence.\n<</SYS>>\n\nWhat is a cache? [/INST]"
         "A place to keep what is needed again.</s>[INST] How small can it be? [/INST]"}}},
      {"mistral-v0.3",
       {{"three messages after a system message",
         "[INST] Answer in one sentence.\n\nWhat is a cache?[/INST] "
         "A place to keep what is needed again.</s>[INST] How small can it be?[/INST]"}}},
      {"qwen2.5",
       {{"one question", "<|im_start|>user\nWhat is a cache?<|im_end|>\n<|im_start|>assistant\n"},
        {"three messages",
         "<|im_start|>user\nWhat is a cache?<|im_end|>\n<|im_start|>assistant\n"
         "A place to keep what is needed again.<|im_end|>\n<|im_start|>user\n"
         "How small can it be?<|im_end|>\n<|im_start|>assistant\n"}}}};
  return kList;
}

TEST(ChatTemplate, EveryFamilyIsFormattedAsItsOwnTemplateSays) {
  const Json data = fixture();
  std::set<std::string> families;
  for (const auto& entry : data.at("families")) {
    const auto family = entry.at("family").get<std::string>();
    families.insert(family);
    const MemoryFile file;
    file.write(file_with_template(entry.at("template").text()));
    const Tokenizer tokenizer(file.path());
    ASSERT_TRUE(tokenizer.has_chat_template());
    const auto begin = entry.at("bos").get<std::string>();
    for (const auto& [name, rendered] : entry.at("rendered").items()) {
      SCOPED_TRACE(family + ", " + name);
      auto expected = rendered.get<std::string>();
      // Encoding adds the beginning of text. (SmolLM2's is the marker of a turn, and not added.)
      if (family != "smollm2" && expected.starts_with(begin)) expected.erase(0, begin.size());
      const auto messages = messages_of(data.at("conversations").at(name));
      const std::string formatted = tokenizer.apply_chat_template(messages);
      // SmolLM2's format is Qwen's, down to the system message that libllama leaves out.
      const auto known = deviations().find(family == "smollm2" ? "qwen2.5" : family);
      if (known != deviations().end() && known->second.contains(name)) {
        EXPECT_EQ(formatted, known->second.at(name));
        EXPECT_NE(formatted, expected) << "no longer a deviation: take it from the list";
      } else {
        EXPECT_EQ(formatted, expected);
      }
    }
  }
  EXPECT_EQ(families, (std::set<std::string>{"gemma", "llama2", "llama3", "mistral-v0.1",
                                             "mistral-v0.3", "phi3", "qwen2.5", "smollm2"}));
}

TEST(ChatTemplate, TheFixtureHoldsTheTemplateOfTheRealModel) {
  std::ifstream stream(testing::test_model_path(), std::ios::binary);
  std::string head(4U << 20U, '\0');
  stream.read(head.data(), static_cast<std::streamsize>(head.size()));
  const Json data = fixture();
  for (const auto& entry : data.at("families")) {
    if (entry.at("family") != "smollm2") continue;
    EXPECT_NE(head.find(testing::gguf_string(entry.at("template").get<std::string>())),
              std::string::npos);
  }
}

TEST(ChatTemplate, RefusesWhatItCannotFormat) {
  const ChatMessage message{"user", "hello"};
  const auto error = [&](const std::string& text) -> std::string {
    const MemoryFile file;
    file.write(file_with_template(text));
    const Tokenizer tokenizer(file.path());
    EXPECT_EQ(tokenizer.has_chat_template(), !text.empty());
    try {
      return "formatted: " + tokenizer.apply_chat_template({&message, 1});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
      return e.what();
    }
  };
  EXPECT_NE(error("").find("has no chat template (a base model?)"), std::string::npos);
  EXPECT_NE(error("{{ messages }}").find("does not know its 'tokenizer.chat_template'"),
            std::string::npos);
}

}  // namespace
}  // namespace restkv
