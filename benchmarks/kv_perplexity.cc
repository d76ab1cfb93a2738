// Cost of storing keys and values in fewer bits: perplexity of real text after a compressed prompt,
// one row per budget and storage type. All caches of a window come from one prefill. The table is
// printed after each window, over all windows so far.
//
//   kv_perplexity MODEL TEXT [WINDOWS]

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/tokenizer.h"

namespace {

using restkv::KvType;

constexpr size_t kPromptTokens = 2048;
constexpr size_t kScoredTokens = 512;
constexpr std::array kTypes = {KvType::kF32, KvType::kF16, KvType::kQ8, KvType::kQ4};
constexpr std::array kBudgets = {0, 512};  // 0: everything

/// -log of the softmax of `logits` at `token`.
double surprise(std::span<const float> logits, int32_t token) {
  double top = logits[0];
  for (const float x : logits) top = std::max(top, double{x});
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  return top + std::log(sum) - logits[static_cast<size_t>(token)];
}

struct Row {
  int budget;
  KvType type;
  double surprise = 0;
  size_t bytes = 0;
};

/// Prints the table after `windows` windows.
void print(const std::vector<Row>& rows, size_t windows) {
  fmt::print("{} tokens after prompts of {}, {} windows\n", kScoredTokens, kPromptTokens, windows);
  fmt::print("{:>8} {:>6} {:>12} {:>12} {:>12}\n", "budget", "type", "MiB", "perplexity",
             "against f32");
  double exact = 0;
  for (const Row& row : rows) {
    const double mean = row.surprise / static_cast<double>(windows * kScoredTokens);
    if (row.type == KvType::kF32) exact = mean;
    fmt::print("{:>8} {:>6} {:>12.2f} {:>12.4f} {:>+11.3f}%\n",
               row.budget == 0 ? "all" : std::to_string(row.budget), kv_type_name(row.type),
               static_cast<double>(row.bytes) / (1 << 20), std::exp(mean),
               100 * std::expm1(mean - exact));
  }
  std::fflush(stdout);
}

void run(const std::string& model_path, const std::string& text_path, size_t windows) {
  std::ifstream file(text_path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const restkv::Model model(model_path);
  const restkv::Tokenizer tokenizer(model_path);
  const std::vector<int32_t> tokens = tokenizer.encode(text, true, false);
  constexpr size_t kWindow = kPromptTokens + kScoredTokens;
  if (tokens.size() < windows * kWindow + 1) {
    throw restkv::Error(restkv::ErrorCode::kInvalidArgument,
                        fmt::format("{} has {} tokens, but {} windows of {} are needed", text_path,
                                    tokens.size(), windows, kWindow));
  }
  restkv::Engine engine(model);
  std::vector<Row> rows;
  for (const int budget : kBudgets) {
    for (const KvType type : kTypes) rows.push_back({budget, type});
  }
  for (size_t w = 0; w < windows; ++w) {
    const std::span<const int32_t> window = std::span(tokens).subspan(w * kWindow, kWindow + 1);
    std::vector<restkv::CacheRequest> requests(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      requests[i].options = restkv::paper_options(rows[i].budget == 0 ? "full" : "restkv");
      if (rows[i].budget > 0) requests[i].options.budget = rows[i].budget;
      requests[i].kv_type = rows[i].type;
    }
    const std::vector<float> first = engine.prefill(window.first(kPromptTokens), requests);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].bytes = requests[i].cache.kept_bytes();
      std::span<const float> logits = first;
      for (size_t t = kPromptTokens; t < kWindow; ++t) {
        rows[i].surprise += surprise(logits, window[t]);
        logits = engine.decode(window[t], requests[i].cache);
      }
    }
    print(rows, w + 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fmt::print(stderr, "usage: kv_perplexity MODEL TEXT [WINDOWS]\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argc == 4 ? std::strtoul(argv[3], nullptr, 10) : 4);
  } catch (const restkv::Error& e) {
    fmt::print(stderr, "kv_perplexity: {}\n", e.what());
    return 1;
  }
  return 0;
}
