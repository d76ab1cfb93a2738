#include "model/parity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ostream>
#include <random>

#include "make_model/presets.h"
#include "restkv/engine.h"
#include "support/llama_reference.h"
#include "support/windowed_llama.h"

namespace restkv::testing {
namespace {

constexpr size_t kSteps = 50;
constexpr uint32_t kContext = 512;

Logits logits_of(LlamaReference& reference, std::span<const int32_t> tokens) {
  Logits all(tokens.size());
  const auto add = [&](size_t position, std::span<const float> logits) {
    all[position].assign(logits.begin(), logits.end());
  };
  reference.feed(tokens.first(kParityPrompt));
  for (size_t i = 0; i < kParityPrompt; ++i) add(i, reference.logits(i));
  for (size_t i = kParityPrompt; i < tokens.size(); ++i) {
    reference.feed(tokens.subspan(i, 1));
    add(i, reference.logits(0));
  }
  return all;
}

}  // namespace

std::vector<int32_t> parity_tokens() {
  std::mt19937 random(7);
  std::vector<int32_t> tokens(kParityPrompt + kSteps);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kParityVocabulary);
  return tokens;
}

Logits libllama_logits(const std::string& path, std::span<const int32_t> tokens) {
  LlamaReference reference(path, {.context = kContext});
  return logits_of(reference, tokens);
}

Logits exact_libllama_logits(const std::string& path, std::span<const int32_t> tokens) {
  LlamaReference reference(path, {.context = kContext, .exact_gelu = true});
  return logits_of(reference, tokens);
}

Logits restkv_logits(const std::string& path, std::span<const int32_t> tokens) {
  const Model model(path);
  Engine engine(model);
  Logits all(tokens.size());
  const std::span<const int32_t> prompt = tokens.first(kParityPrompt);
  engine.score(prompt, [&](size_t first, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) {
      all[first + r].assign(logits.row(r), logits.row(r) + logits.cols);
    }
  });
  CacheRequest request;
  request.options = default_options("full");
  request.kv_type = KvType::kF32;
  engine.prefill(prompt, {&request, 1});
  for (size_t i = kParityPrompt; i < tokens.size(); ++i) {
    const std::span<const float> logits = engine.decode(tokens[i], request.cache);
    all[i].assign(logits.begin(), logits.end());
  }
  return all;
}

Parity compare(const Logits& reference, const Logits& other) {
  Parity parity;
  for (size_t i = 0; i < reference.size(); ++i) {
    (i < kParityPrompt ? parity.prompt : parity.decoding).add(reference[i], other[i]);
  }
  return parity;
}

void PrintTo(const ParityCase& c, std::ostream* out) { *out << c.name; }

std::string parity_test_name(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

ParityCase parity_case(const std::string& preset) {
  ParityCase c{.name = preset.substr(std::string("tiny-").size()), .model = find_preset(preset)};
  c.model.tokenizer = test_model_path();
  c.model.vocabulary = kParityVocabulary;
  if (c.model.architecture == "llama" && c.model.window > 0) {
    c.write_for_libllama = write_windowed_llama;
  }
  return c;
}

ParityFiles::ParityFiles(const ParityCase& c, const TemporaryFolder& folder)
    : ours(folder.file("ours")), theirs(c.write_for_libllama ? folder.file("theirs") : ours) {
  c.model.write(ours);
  if (c.write_for_libllama) c.write_for_libllama(c.model, theirs);
}

void check_float32(const ParityCase& c) {
  const TemporaryFolder folder;
  const std::vector<int32_t> tokens = parity_tokens();
  const ParityFiles files(c, folder);
  const Parity ours =
      compare(exact_libllama_logits(files.theirs, tokens), restkv_logits(files.ours, tokens));
  std::printf("| %s | f32 | %.1e | %.1e | | |\n", c.name.c_str(), ours.prompt.max_difference,
              ours.decoding.max_difference);
  EXPECT_LE(ours.prompt.max_difference, 1e-3);
  EXPECT_LE(ours.decoding.max_difference, 1e-3);
}

}  // namespace restkv::testing
