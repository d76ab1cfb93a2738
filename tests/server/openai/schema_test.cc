// JSON by a schema: what is sampled at random under its grammar is of that form.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "generate/grammar.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"
#include "server/openai/schema_grammar.h"
#include "support/memory_file.h"
#include "support/raw_gguf.h"
#include "support/small_vocabulary.h"
#include "support/tiny_model.h"

namespace restkv::server {
namespace {

/// Whether `value` is as `schema` says, for what the schemas below use.
bool follows(const Json& value, const Json& schema) {
  if (const Json* any = schema.find("anyOf")) {
    return std::ranges::any_of(*any, [&](const Json& one) { return follows(value, one); });
  }
  if (const Json* words = schema.find("enum")) {
    return std::ranges::any_of(*words, [&](const Json& word) { return word == value; });
  }
  const std::string type = schema.value("type", "any");
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "integer") {
    return value.is_number_integer() && value.get<double>() >= schema.value("minimum", -1e300) &&
           value.get<double>() <= schema.value("maximum", 1e300);
  }
  if (type == "number") return value.is_number();
  if (type == "string") {
    // Bytes that are no characters, four of which count as one, have become U+FFFD.
    return value.is_string() &&
           value.text().size() <= 12 * schema.value("maxLength", size_t{1} << 30);
  }
  if (type == "array") {
    return value.is_array() && value.size() >= schema.value("minItems", size_t{0}) &&
           value.size() <= schema.value("maxItems", size_t{1} << 30) &&
           std::ranges::all_of(value,
                               [&](const Json& item) { return follows(item, schema.at("items")); });
  }
  if (!value.is_object()) return false;
  const Json* required = schema.find("required");
  const Json& properties = schema.at("properties");
  for (const auto& [name, field] : value.items()) {
    if (!properties.contains(name) || !follows(field, properties.at(name))) return false;
  }
  return required == nullptr || std::ranges::all_of(*required, [&](const Json& name) {
           return value.contains(name.text());
         });
}

const std::vector<std::string> kSchemas{
    R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}, "age":
      {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["name", "age"],
      "additionalProperties": false})",
    R"({"type": "array", "items": {"enum": ["red", "green", 3, null]}, "minItems": 2,
      "maxItems": 5})",
    R"({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"anyOf":
      [{"type": "null"}, {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 20},
      "maxItems": 3}]},
      "c": {"type": "object", "properties": {"d": {"enum": ["\u00e9\"\\"]}}, "required": ["d"],
      "additionalProperties": false}}, "required": ["a", "b", "c"],
      "additionalProperties": false})"};

/// An answer to nothing but chance.
GenerationResult random_answer(const Tokenizer& tokenizer, const std::string& gbnf, uint64_t seed) {
  Random random(seed);
  std::vector<float> logits(tokenizer.vocabulary());
  const auto draw = [&] {
    for (float& logit : logits) logit = static_cast<float>(random.below(2000)) / 200.0F;
  };
  const auto grammar = make_grammar(tokenizer, {.gbnf = gbnf});
  GenerationOptions options;
  options.max_tokens = 600;
  options.constraint = grammar.get();
  options.sampling = {.temperature = 2, .top_k = 0, .top_p = 1, .min_p = 0};
  options.sampling.seed = static_cast<uint32_t>(seed);
  draw();
  return generate(
      [&](int32_t /*token*/) {
        draw();
        return std::span<const float>(logits);
      },
      logits, tokenizer, options);
}

void expect_json_by_schema(const Tokenizer& tokenizer, uint64_t seeds) {
  for (const std::string& text : kSchemas) {
    const Json schema = parse_json(text);
    const std::string gbnf = grammar_of_schema(schema, "response_format");
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
      const GenerationResult result = random_answer(tokenizer, gbnf, seed);
      SCOPED_TRACE(result.text);
      ASSERT_EQ(result.finish_reason, FinishReason::kStop);
      EXPECT_TRUE(follows(parse_json(result.text), schema)) << text;
    }
  }
}

TEST(Schema, IsFollowedAtRandomWithASmallVocabulary) {
  testing::RawGguf gguf;
  gguf.set_string("general.architecture", "llama");
  testing::add_bpe_vocabulary(gguf);
  const testing::MemoryFile file;
  file.write(gguf.bytes());
  expect_json_by_schema(Tokenizer(file.path()), 40);
}

TEST(Schema, IsFollowedAtRandomWithARealVocabulary) {
  expect_json_by_schema(Tokenizer(testing::test_model_path()), 3);
}

}  // namespace
}  // namespace restkv::server
