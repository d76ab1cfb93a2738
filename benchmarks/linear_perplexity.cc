// Cost and gain of prompts in fewer bits: perplexity of real text, divergence from float32, and
// time, for every precision of matrix products and attention that this processor supports.
//
//   linear_perplexity MODEL TEXT [WINDOWS]

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention_precision.h"
#include "bench/machine.h"
#include "linear/linear_precision.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/tokenizer.h"

namespace {

using restkv::AttentionPrecision;
using restkv::LinearPrecision;
using restkv::Matrix;

constexpr size_t kWindow = 1024;
/// Tokens before this one have too little context to count.
constexpr size_t kFirstScored = 256;

struct Row {
  std::string name;
  std::unique_ptr<restkv::Model> model;
  std::unique_ptr<restkv::Engine> engine;
  double surprise = 0, divergence = 0, agreement = 0, seconds = 0;
};

/// Log-probabilities in place of logits.
void log_softmax(std::span<float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  const float shift = top + static_cast<float>(std::log(sum));
  for (float& x : logits) x -= shift;
}

size_t most_likely(std::span<const float> x) {
  return static_cast<size_t>(std::max_element(x.begin(), x.end()) - x.begin());
}

void run(const std::string& model_path, const std::string& text_path, size_t windows) {
  std::ifstream file(text_path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<Row> rows;
  constexpr std::array kPrecisions{
      std::pair{LinearPrecision::kF32, AttentionPrecision::kF32},  // the reference
      std::pair{LinearPrecision::kF32, AttentionPrecision::kBf16},
      std::pair{LinearPrecision::kBf16, AttentionPrecision::kF32},
      std::pair{LinearPrecision::kBf16, AttentionPrecision::kBf16},
      std::pair{LinearPrecision::kF32, AttentionPrecision::kInt8},
      std::pair{LinearPrecision::kInt8, AttentionPrecision::kF32},
      std::pair{LinearPrecision::kInt8, AttentionPrecision::kInt8}};
  for (const auto& [linear, attention] : kPrecisions) {
    const std::string name =
        fmt::format("{} / {}", linear_precision_name(linear), attention_precision_name(attention));
    if (!restkv::supports(linear) || !restkv::supports(attention)) {
      fmt::print("{}: not on this processor\n", name);
      continue;
    }
    Row& row = rows.emplace_back();
    row.name = name;
    restkv::ModelOptions options;
    options.linear = linear;
    options.attention = attention;
    row.model = std::make_unique<restkv::Model>(model_path, options);
    row.engine = std::make_unique<restkv::Engine>(*row.model);
  }
  const std::vector<int32_t> tokens = restkv::Tokenizer(model_path).encode(text, true, false);
  if (tokens.size() < windows * kWindow + 1) {
    throw restkv::Error(restkv::ErrorCode::kInvalidArgument,
                        fmt::format("{} has {} tokens, but {} windows of {} are needed", text_path,
                                    tokens.size(), windows, kWindow));
  }
  const size_t vocabulary = rows[0].model->config().vocabulary;
  std::vector<float> exact((kWindow - kFirstScored) * vocabulary);
  std::vector<float> scored(vocabulary);
  for (size_t w = 0; w < windows; ++w) {
    const std::span<const int32_t> window = std::span(tokens).subspan(w * kWindow, kWindow + 1);
    for (Row& row : rows) {
      const auto sink = [&](size_t first, Matrix<const float> logits) {
        for (size_t r = 0; r < logits.rows; ++r) {
          const size_t position = first + r;
          if (position < kFirstScored) continue;
          std::copy_n(logits.row(r), vocabulary, scored.begin());
          log_softmax(scored);
          row.surprise -= scored[static_cast<size_t>(window[position + 1])];
          const std::span<float> reference =
              std::span(exact).subspan((position - kFirstScored) * vocabulary, vocabulary);
          if (&row == rows.data()) std::ranges::copy(scored, reference.begin());
          double divergence = 0;
          for (size_t i = 0; i < vocabulary; ++i) {
            divergence += std::exp(double{reference[i]}) * (reference[i] - scored[i]);
          }
          row.divergence += divergence;
          if (most_likely(reference) == most_likely(scored)) ++row.agreement;
        }
      };
      row.engine->score(window.first(kWindow), sink);
      row.seconds += restkv::bench::seconds([&] {
        restkv::CacheRequest request;
        request.options = restkv::default_options("full");
        row.engine->prefill(window.first(kWindow), {&request, 1});
      });
    }
    const auto count = static_cast<double>((w + 1) * (kWindow - kFirstScored));
    fmt::print("{} windows, {} scored tokens\n{:>18} {:>12} {:>12} {:>12} {:>12} {:>12}\n", w + 1,
               count, "linear / attention", "perplexity", "against f32", "KL to f32", "same token",
               "prefill/s");
    for (const Row& row : rows) {
      fmt::print("{:>18} {:>12.4f} {:>+11.3f}% {:>12.2e} {:>11.2f}% {:>12.0f}\n", row.name,
                 std::exp(row.surprise / count),
                 100 * std::expm1((row.surprise - rows[0].surprise) / count),
                 row.divergence / count, 100 * row.agreement / count,
                 static_cast<double>((w + 1) * kWindow) / row.seconds);
    }
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fmt::print(stderr, "usage: linear_perplexity MODEL TEXT [WINDOWS]\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argc == 4 ? std::strtoul(argv[3], nullptr, 10) : 4);
  } catch (const restkv::Error& e) {
    fmt::print(stderr, "linear_perplexity: {}\n", e.what());
    return 1;
  }
  return 0;
}
