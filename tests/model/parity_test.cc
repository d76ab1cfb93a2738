// The forward pass against libllama on the same file: the reference every user of GGUF files knows.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "restkv/engine.h"
#include "support/llama_reference.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::LlamaReference;

std::vector<double> log_softmax(const float* logits, size_t count) {
  const double top = *std::max_element(logits, logits + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(logits[i] - top);
  std::vector<double> result(count);
  for (size_t i = 0; i < count; ++i) result[i] = logits[i] - top - std::log(sum);
  return result;
}

int32_t arg_max(const float* logits, size_t count) {
  return static_cast<int32_t>(std::max_element(logits, logits + count) - logits);
}

std::vector<int32_t> essay_tokens() {
  std::ifstream file(RESTKV_TEST_DATA_DIR "/smollm2/essay_tokens.txt");
  std::vector<int32_t> tokens;
  for (int32_t id; file >> id;) tokens.push_back(id);
  return tokens;
}

// An exact float32 computation of these weights has mean KL 0.003 and 95% agreement against
// libllama, which rounds activations to 8 bits.
TEST(ParityTest, SmolLm2AgreesWithLibllamaOnRealText) {
  const std::vector<int32_t> text = essay_tokens();
  ASSERT_EQ(text.size(), 1001U);
  const std::vector<int32_t> fed(text.begin(), text.end() - 1);
  LlamaReference reference(testing::test_model_path(), 2048, 2);
  reference.feed(fed);

  const Model model(testing::test_model_path());
  Engine engine(model);
  const size_t vocabulary = reference.vocabulary();
  double divergence = 0;
  double our_loss = 0;
  double their_loss = 0;
  size_t agreeing = 0;
  engine.score(fed, [&](size_t first, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) {
      const float* theirs = reference.logits(first + r).data();
      const std::vector<double> p = log_softmax(theirs, vocabulary);
      const std::vector<double> q = log_softmax(logits.row(r), vocabulary);
      for (size_t v = 0; v < vocabulary; ++v) divergence += std::exp(p[v]) * (p[v] - q[v]);
      const auto next = static_cast<size_t>(text[first + r + 1]);
      our_loss -= q[next];
      their_loss -= p[next];
      agreeing += arg_max(theirs, vocabulary) == arg_max(logits.row(r), vocabulary) ? 1 : 0;
    }
  });
  const auto positions = static_cast<double>(fed.size());
  const double mean_divergence = divergence / positions;
  const double agreement = static_cast<double>(agreeing) / positions;
  const double our_perplexity = std::exp(our_loss / positions);
  const double their_perplexity = std::exp(their_loss / positions);
  std::printf("mean KL %.5f, top-1 agreement %.1f%%, perplexity %.4f (libllama %.4f)\n",
              mean_divergence, 100 * agreement, our_perplexity, their_perplexity);
  EXPECT_LE(mean_divergence, 0.006);
  EXPECT_GE(agreement, 0.94);
  EXPECT_NEAR(our_perplexity / their_perplexity, 1.0, 0.005);
}

struct Shape {
  const char* name;
  testing::TinyModel model;
};

class TinyParityTest : public ::testing::TestWithParam<Shape> {};

TEST_P(TinyParityTest, LogitsAndGreedyTextEqualLibllama) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("tiny.gguf");
  testing::TinyModel tiny = GetParam().model;
  tiny.tokenizer = testing::test_model_path();
  tiny.vocabulary = 1024;
  tiny.write(path);
  LlamaReference reference(path);
  const size_t vocabulary = reference.vocabulary();
  std::vector<int32_t> prompt(300);
  for (size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<int32_t>((i * 7919 + 13) % vocabulary);
  }
  const Model model(path);
  Engine engine(model);

  double worst = 0;
  reference.feed(prompt);
  engine.score(prompt, [&](size_t first, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) {
      const float* theirs = reference.logits(first + r).data();
      for (size_t v = 0; v < vocabulary; ++v) {
        worst = std::max(worst, std::abs(static_cast<double>(logits.row(r)[v]) - theirs[v]));
      }
    }
  });
  EXPECT_LE(worst, 1e-3) << "in the prompt";

  CacheRequest request;
  request.options = default_options("full");
  request.kv_type = KvType::kF32;  // like the reference's cache
  const std::vector<float> first = engine.prefill(prompt, {&request, 1});
  std::span<const float> ours = first;
  const float* theirs = reference.logits(prompt.size() - 1).data();
  double worst_decoding = 0;
  for (int step = 0; step < 50; ++step) {
    for (size_t v = 0; v < vocabulary; ++v) {
      worst_decoding = std::max(worst_decoding, std::abs(static_cast<double>(ours[v]) - theirs[v]));
    }
    const int32_t token = arg_max(ours.data(), vocabulary);
    ASSERT_EQ(token, arg_max(theirs, vocabulary)) << "greedy text differs at step " << step;
    reference.feed({&token, 1});
    theirs = reference.logits(0).data();
    ours = engine.decode(token, request.cache);
  }
  std::printf("max |difference| prompt %.2e, 50 decoding steps %.2e\n", worst, worst_decoding);
  EXPECT_LE(worst_decoding, 1e-3) << "while decoding";
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, TinyParityTest,
    ::testing::Values(
        Shape{"gqa", {.layers = 2, .width = 96, .query_heads = 6, .kv_heads = 2, .head_dim = 16}},
        Shape{"mha", {.layers = 3, .width = 64, .query_heads = 4, .kv_heads = 4, .head_dim = 16}},
        Shape{"wide_heads",
              {.layers = 2, .width = 64, .query_heads = 2, .kv_heads = 1, .head_dim = 64}}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

}  // namespace
}  // namespace restkv
