// Real models on real text: the perplexity that restkv computes beside libllama's, for the same
// file, tokens and windows.
//
// The text is a page of this project's documentation. RESTKV_PERPLEXITY_TEXT names another file,
// and RESTKV_PERPLEXITY_WINDOWS how many windows of it are read.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "restkv/engine.h"
#include "restkv/tokenizer.h"
#include "support/divergence.h"
#include "support/llama_reference.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::LlamaReference;

const char* environment(const char* name, const char* fallback) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : fallback;
}

/// Negative log-likelihoods of the tokens that follow the first of each window.
struct Loss {
  double ours = 0;
  double theirs = 0;
  size_t tokens = 0;

  [[nodiscard]] double our_perplexity() const {
    return std::exp(ours / static_cast<double>(tokens));
  }
  [[nodiscard]] double their_perplexity() const {
    return std::exp(theirs / static_cast<double>(tokens));
  }
};

/// Windows of `size` tokens of a text, each after the tokens that the model wants at a beginning.
std::vector<std::vector<int32_t>> windows_of(const Tokenizer& tokenizer, const std::string& text,
                                             size_t size, size_t count) {
  const std::vector<int32_t> beginning = tokenizer.encode("", true, false);
  const std::vector<int32_t> tokens = tokenizer.encode(text, false, false);
  std::vector<std::vector<int32_t>> windows;
  for (size_t at = 0; at + size <= tokens.size() && windows.size() < count; at += size) {
    std::vector<int32_t>& window = windows.emplace_back(beginning);
    const auto first = tokens.begin() + static_cast<ptrdiff_t>(at);
    window.insert(window.end(), first, first + static_cast<ptrdiff_t>(size));
  }
  return windows;
}

double loss_of(std::span<const float> logits, int32_t next) {
  return testing::log_sum_exp(logits) - logits[static_cast<size_t>(next)];
}

/// Windows of 768 tokens: longer than the sliding windows of Gemma 3's local layers.
Loss losses(const std::string& path) {
  constexpr size_t kWindow = 768;
  // libllama holds the logits of as many positions: 134 MB of Gemma's 262,144 tokens.
  constexpr size_t kFed = 128;
  const std::string text =
      read_file(environment("RESTKV_PERPLEXITY_TEXT", RESTKV_TEST_DATA_DIR "/../../LICENSE"));
  const size_t count = std::stoul(environment("RESTKV_PERPLEXITY_WINDOWS", "1"));
  const Model model(path);
  Engine engine(model);
  LlamaReference reference(path, {.context = 1024});
  Loss loss;
  for (const std::vector<int32_t>& window : windows_of(Tokenizer(path), text, kWindow, count)) {
    const std::span<const int32_t> fed(window.data(), window.size() - 1);
    engine.score(fed, [&](size_t first, Matrix<const float> logits) {
      for (size_t r = 0; r < logits.rows; ++r) {
        loss.ours += loss_of(logits.row_span(r), window[first + r + 1]);
      }
    });
    reference.restart();
    for (size_t first = 0; first < fed.size(); first += kFed) {
      const size_t rows = std::min(kFed, fed.size() - first);
      reference.feed(fed.subspan(first, rows));
      for (size_t r = 0; r < rows; ++r) {
        loss.theirs += loss_of(reference.logits(r), window[first + r + 1]);
      }
    }
    loss.tokens += fed.size();
  }
  return loss;
}

void expect_parity(const char* name, const Loss& loss) {
  ASSERT_GT(loss.tokens, 500U) << "the text is too short";
  const double ratio = loss.our_perplexity() / loss.their_perplexity();
  std::printf("| %s | %zu | %.3f | %.3f | %+.2f%% |\n", name, loss.tokens, loss.our_perplexity(),
              loss.their_perplexity(), 100 * (ratio - 1));
  EXPECT_NEAR(ratio, 1.0, 0.01);
  // Models that read at all: a uniform guess has the perplexity of the vocabulary's size.
  EXPECT_LT(loss.their_perplexity(), 500);
}

TEST(PerplexityParity, SmolLm2) {
  expect_parity("SmolLM2-135M-Instruct, Q4_1", losses(testing::test_model_path()));
}

TEST(PerplexityParity, Gemma3) {
  const auto path = testing::gemma_path();
  if (!path) GTEST_SKIP() << testing::kNoGemma;
  expect_parity("Gemma 3 270M, Q4_K_M", losses(*path));
}

}  // namespace
}  // namespace restkv
