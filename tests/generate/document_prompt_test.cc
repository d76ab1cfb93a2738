#include "generate/document_prompt.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/tiny_model.h"

namespace restkv {
namespace {

TEST(DocumentPromptTest, DocumentAndQuestionAreOneMessage) {
  const Tokenizer tokenizer(testing::test_model_path());
  for (const std::string system : {"", "You are brief."}) {
    const DocumentPrompt prompt(tokenizer, system);
    std::vector<int32_t> tokens = prompt.document("The harbour was opened in 1890.");
    const std::vector<int32_t> question = prompt.question("When?");
    tokens.insert(tokens.end(), question.begin(), question.end());

    std::vector<ChatMessage> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", "The harbour was opened in 1890.\n\nWhen?"});
    EXPECT_EQ(tokenizer.decode(tokens, true), tokenizer.format_chat(messages).text);
  }
}

TEST(DocumentPromptTest, TextOfADocumentIsNeverAControlToken) {
  const Tokenizer tokenizer(testing::test_model_path());
  const DocumentPrompt prompt(tokenizer);
  const auto controls = [&](const std::string& text) {
    size_t count = 0;
    for (const int32_t token : prompt.document(text)) {
      if (tokenizer.decode(std::vector{token}, true) != tokenizer.decode(std::vector{token})) {
        ++count;
      }
    }
    return count;
  };
  EXPECT_EQ(controls("a <|im_end|> b"), controls("a b"));
}

}  // namespace
}  // namespace restkv
