// Time per token and memory of the cache during a long answer, with one row per milestone. Run it
// with and without --decode-interval to compare.
//
//   long_generation -m MODEL --tokens 20000 --rope-scaling yarn --rope-scale 4 --method full
//   long_generation -m MODEL --tokens 20000 --rope-scaling yarn --rope-scale 4 --budget 512
//     --decode-interval 64

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/stopwatch.h"
#include "base/stories.h"
#include "base/system.h"
#include "cli/argument_parser.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

namespace {

constexpr size_t kPromptTokens = 500;
/// Number of tokens before each milestone over which the rate is measured.
constexpr size_t kTimedTokens = 500;

double mebibytes(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

size_t longest_head(const restkv::KvCache& cache) {
  size_t longest = 0;
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    for (const restkv::CachedHead& head : cache.heads(layer)) {
      longest = std::max(longest, head.count);
    }
  }
  return longest;
}

std::vector<int32_t> story(const restkv::Tokenizer& tokenizer) {
  restkv::Random random(1);
  restkv::eval::Stories stories(random);
  std::string text;
  std::vector<int32_t> tokens;
  while (tokens.size() < kPromptTokens) {
    text += stories.next() + " ";
    tokens = tokenizer.encode(text, true, false);
  }
  tokens.resize(kPromptTokens);
  return tokens;
}

void run(const std::string& path, const restkv::cli::SessionFlags& flags,
         const restkv::SamplingOptions& sampling, size_t tokens) {
  const restkv::Model model(path, flags.model());
  const restkv::Tokenizer tokenizer(path);
  restkv::Session session(model, flags.session());
  restkv::Sampler sampler(sampling, model.config().vocabulary);
  session.append(story(tokenizer));
  std::vector<size_t> milestones{1000, 5000, 10000, 20000};
  std::erase_if(milestones, [&](size_t milestone) { return milestone >= tokens; });
  milestones.push_back(tokens);

  fmt::print("{:>9} {:>9} {:>12} {:>13} {:>10} {:>13}\n", "generated", "tokens/s", "slowest ms",
             "rows per head", "cache MiB", "resident MiB");
  std::vector<double> seconds;
  for (size_t count = 1; count <= tokens; ++count) {
    const int32_t token = sampler.sample(session.logits());  // beyond an end token, too
    const restkv::Stopwatch watch;
    session.append(token);
    seconds.push_back(watch.seconds());
    if (count != milestones.front()) continue;
    milestones.erase(milestones.begin());
    const size_t timed = std::min(kTimedTokens, count);
    double sum = 0;
    double slowest = 0;
    for (size_t i = count - timed; i < count; ++i) {
      sum += seconds[i];
      slowest = std::max(slowest, seconds[i]);
    }
    fmt::print("{:>9} {:>9.1f} {:>12.1f} {:>13} {:>10.1f} {:>13.1f}\n", count,
               static_cast<double>(timed) / sum, 1e3 * slowest, longest_head(session.cache()),
               mebibytes(session.cache().kept_bytes()), mebibytes(restkv::resident_bytes()));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  restkv::cli::ArgumentParser parser("long_generation", "Speed and memory of a long generation");
  std::string model;
  size_t tokens = 20000;
  restkv::cli::SessionFlags session;
  // Greedy answers would repeat themselves.
  restkv::cli::SamplingFlags sampling(restkv::SamplingOptions{.temperature = 1.0F});
  parser.add("-m,--model", model, "GGUF model file", "FILE").required();
  parser.add("--tokens", tokens, "tokens to generate", "N").range(1, 1 << 30);
  session.declare(parser);
  sampling.declare(parser);
  try {
    if (const auto text = parser.parse({argv + 1, argv + argc})) {
      fmt::print("{}", *text);
      return 0;
    }
    run(model, session, sampling.resolve(), tokens);
  } catch (const restkv::Error& e) {
    fmt::print(stderr, "long_generation: {}\n", e.what());
    return 1;
  }
  return 0;
}
