// libllama-common as script/bootstrap builds it, which is not all of it: templates are rendered as
// their authors' library does (tests/data/chat_templates), and tools and schemas work.

#include <chat.h>
#include <gtest/gtest.h>
#include <json-schema-to-grammar.h>
#include <llama-cpp.h>
#include <log.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

/// Qwen's form, in which tools are described and called.
constexpr const char* kToolTemplate = R"({%- if tools %}
{{- '<|im_start|>system\n# Tools\n<tools>' }}
{%- for tool in tools %}
{{- '\n' }}{{- tool | tojson }}
{%- endfor %}
{{- '\n</tools>\n\nFor each call, return\n<tool_call>\n{"name": <name>, "arguments": <args>}\n</tool_call><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})";

constexpr const char* kCitySchema =
    R"({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})";

class LlamaCommon : public ::testing::Test {
 protected:
  void SetUp() override { common_log_set_verbosity_thold(-1); }
};

Json fixture() { return read_json(RESTKV_TEST_DATA_DIR "/chat_templates/chat_templates.json"); }

common_chat_msg message_of(const std::string& role, const std::string& content) {
  common_chat_msg message;
  message.role = role;
  message.content = content;
  return message;
}

std::string rendered(const common_chat_templates* templates, const Json& conversation) {
  common_chat_templates_inputs inputs;
  for (const Json& message : conversation) {
    inputs.messages.push_back(message_of(message.at("role").text(), message.at("content").text()));
  }
  inputs.force_pure_content = true;
  return common_chat_templates_apply(templates, inputs).prompt;
}

TEST_F(LlamaCommon, RendersTemplatesAsJinjaDoes) {
  const Json data = fixture();
  for (const Json& family : data.at("families")) {
    const std::string end = family.at("family").text() == "smollm2" ? "<|im_end|>" : "</s>";
    const auto templates = common_chat_templates_init(nullptr, family.at("template").text(),
                                                      family.at("bos").text(), end);
    for (const auto& [name, expected] : family.at("rendered").items()) {
      SCOPED_TRACE(family.at("family").text() + ", " + name);
      EXPECT_EQ(rendered(templates.get(), data.at("conversations").at(name)), expected.text());
    }
  }
}

TEST_F(LlamaCommon, FindsTheTemplateOfAModel) {
  llama_backend_init();
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  const llama_model_ptr model(
      llama_model_load_from_file(testing::test_model_path().c_str(), params));
  ASSERT_NE(model, nullptr);
  const auto templates = common_chat_templates_init(model.get(), "");
  const Json data = fixture();
  for (const Json& family : data.at("families")) {
    if (family.at("family").text() != "smollm2") continue;
    EXPECT_EQ(common_chat_templates_source(templates.get()), family.at("template").text());
    EXPECT_EQ(rendered(templates.get(), data.at("conversations").at("three messages")),
              family.at("rendered").at("three messages").text());
  }
}

TEST_F(LlamaCommon, TurnsASchemaIntoAGrammar) {
  const std::string grammar = json_schema_to_grammar(common_json::parse(kCitySchema));
  EXPECT_NE(grammar.find("root ::="), std::string::npos) << grammar;
  EXPECT_NE(grammar.find("city"), std::string::npos) << grammar;
}

TEST_F(LlamaCommon, ReadsCallsOfTools) {
  const auto templates = common_chat_templates_init(nullptr, kToolTemplate, "<s>", "<|im_end|>");
  common_chat_templates_inputs inputs;
  inputs.messages.push_back(message_of("user", "Weather in Rome?"));
  inputs.tools.push_back({"weather", "The weather in a city", kCitySchema});
  const common_chat_params params = common_chat_templates_apply(templates.get(), inputs);
  EXPECT_NE(params.prompt.find("The weather in a city"), std::string::npos) << params.prompt;
  EXPECT_NE(params.grammar.find("weather"), std::string::npos) << params.grammar;
  EXPECT_TRUE(params.grammar_lazy);

  common_chat_parser_params syntax(params);
  syntax.parser.load(params.parser);
  const common_chat_msg message = common_chat_parse(
      "I look it up.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": "
      "\"Rome\"}}\n</tool_call>",
      false, syntax);
  EXPECT_EQ(message.content, "I look it up.\n");
  ASSERT_EQ(message.tool_calls.size(), 1u);
  EXPECT_EQ(message.tool_calls[0].name, "weather");
  EXPECT_EQ(parse_json(message.tool_calls[0].arguments).at("city").text(), "Rome");
  EXPECT_EQ(common_chat_msg_diff::compute_diffs({}, message).size(), 2u);
}

}  // namespace
}  // namespace restkv
