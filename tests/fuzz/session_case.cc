#include "fuzz/session_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/threads.h"
#include "fuzz/files.h"
#include "fuzz/flags.h"
#include "fuzz/play.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/own_options.h"
#include "support/simd.h"

namespace restkv::fuzz {
namespace {

constexpr std::string_view kSimd = "simd:";
constexpr std::string_view kThreads = "threads:";
constexpr std::string_view kText = "text:";
constexpr std::string_view kDefaultModel = "tiny-llama.Q8_0.gguf";

/// What the words of a case say.
struct Setting {
  std::string model{kDefaultModel};
  std::string simd;
  int threads = 2;
  std::string text = "many";  // different tokens: "many", "few" or "one"
  std::vector<std::string> flags;
  std::vector<std::string> steps;
};

Setting parse(const Case& words) {
  Setting setting;
  for (const std::string& word : words) {
    if (word.starts_with("--")) {
      setting.flags.push_back(word);
    } else if (word.ends_with(".gguf")) {
      setting.model = word;
    } else if (word.starts_with(kSimd)) {
      setting.simd = word.substr(kSimd.size());
    } else if (word.starts_with(kThreads)) {
      setting.threads = std::stoi(word.substr(kThreads.size()));
    } else if (word.starts_with(kText)) {
      setting.text = word.substr(kText.size());
    } else {
      setting.steps.push_back(word);
    }
  }
  return setting;
}

/// How a script is played.
struct Manner {
  int threads = 1;
  int fill = 0x55;
  bool saving = false;  ///< Go on from a saved and loaded session, or a fork, after each step.
  bool changing_budget = true;  ///< Follow the steps that do.
};

/// What a script gave: logits after every step and token, and what was refused.
struct Transcript {
  bool refused = false;  // all of it, before the first step
  std::vector<std::vector<float>> logits;
  std::vector<std::string> refusals;
};

class Player {
 public:
  Player(const Setting& setting, const Model& model, const Options& options, const Manner& manner)
      : setting_(setting), model_(model), manner_(manner), session_(model, options.session) {}

  Transcript play() {
    for (size_t i = 0; i < setting_.steps.size(); ++i) {
      where_ = fmt::format("step {} ({})", i + 1, setting_.steps[i]);
      step(setting_.steps[i]);
      if (manner_.saving) reopen(i);
    }
    return std::move(transcript_);
  }

 private:
  void step(const std::string& step) {
    const size_t colon = std::min(step.find(':'), step.size());
    const std::string name = step.substr(0, colon);
    const std::string argument = colon < step.size() ? step.substr(colon + 1) : "";
    if (name == "read") {
      attempt(
          [&](const ProgressCallback& progress) { session_.append(tokens(argument), progress); });
    } else if (name == "say") {
      for (const int32_t token : tokens(argument)) {
        attempt([&](const ProgressCallback&) { session_.append(token); });
      }
    } else if (name == "cut") {
      attempt([&](const ProgressCallback&) { session_.compress(); });
    } else if (name == "budget") {
      attempt([&](const ProgressCallback&) {
        if (manner_.changing_budget) session_.set_budget(std::stoi(argument));
      });
    } else if (name == "sparse") {
      attempt([&](const ProgressCallback&) { session_.set_sparse(parse_sparse(argument)); });
    }
  }

  std::vector<int32_t> tokens(const std::string& count) {
    std::vector<int32_t> result(std::stoul(count));
    for (int32_t& token : result) token = nth_token(++fed_, setting_.text);
    return result;
  }

  template <class Action>
  void attempt(const Action& action) {
    const State before = state();
    bool begun = false;
    try {
      action([&](double) { return begun = true; });
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kInvalidArgument) {
        throw Finding("blame", fmt::format("{}: {}", where_, e.what()));
      }
      if (begun || !(state() == before)) {
        throw Finding("refusals",
                      fmt::format("{} is refused when it has begun: {}", where_, e.what()));
      }
      transcript_.refusals.push_back(fmt::format("{}: {}", where_, e.what()));
    } catch (const std::exception& e) {
      throw Finding("exceptions", fmt::format("{}: {}", where_, e.what()));
    }
    check_bounds(before);
    transcript_.logits.emplace_back(session_.logits().begin(), session_.logits().end());
  }

  struct State {
    size_t tokens = 0;
    size_t next_position = 0;
    double rows = 0;  // per head of the layers that are compressed
    size_t bytes = 0;
    std::vector<float> logits;
    bool operator==(const State&) const = default;
  };
  [[nodiscard]] State state() const {
    const KvCache& cache = session_.cache();
    return {session_.tokens(),
            cache.next_position,
            mean_rows(),
            cache.kept_bytes(),
            {session_.logits().begin(), session_.logits().end()}};
  }

  [[nodiscard]] double mean_rows() const {
    const KvCache& cache = session_.cache();
    const auto skipped = testing::skipped_layers(compression());
    size_t rows = 0;
    size_t heads = 0;
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      if (model_.config().windows[layer] > 0 || layer < skipped) continue;
      for (const CachedHead& head : cache.heads(layer)) rows += head.count;
      heads += cache.heads(layer).size();
    }
    return heads > 0 ? static_cast<double>(rows) / static_cast<double>(heads) : 0;
  }
  [[nodiscard]] const CompressionOptions& compression() const {
    return session_.options().compression;
  }

  void check_bounds(const State& before) const {
    const KvCache& cache = session_.cache();
    const SessionOptions& options = session_.options();
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      const size_t window = model_.config().windows[layer];
      for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
        const std::span<const int32_t> positions = cache.positions(layer, h);
        const auto where = [&] { return fmt::format("{}, layer {}, head {}", where_, layer, h); };
        if (window > 0 && positions.size() > window) {
          throw Finding("bounds", fmt::format("{}: {} tokens in a window of {}", where(),
                                              positions.size(), window));
        }
        for (size_t i = 0; i < positions.size(); ++i) {
          const int32_t least = i > 0 ? positions[i - 1] + 1 : 0;
          // Windows keep numbers of their own while others are numbered anew.
          const size_t end =
              window > 0 ? static_cast<size_t>(positions[i]) + 1 : cache.next_position;
          if (positions[i] < least || static_cast<size_t>(positions[i]) >= end) {
            throw Finding("bounds", fmt::format("{}: position {} after {}, of {}", where(),
                                                positions[i], least - 1, cache.next_position));
          }
        }
      }
    }
    // These pass their budget by rounding, as published, or by what somebody has written into a
    // file.
    if (compression().allocation == "profile" ||
        compression().pyramid_variant != PyramidVariant::kBalanced ||
        compression().ada_variant != AdaVariant::kBalanced || compression().method == "full") {
      return;
    }
    const auto budget = static_cast<double>(compression().budget);
    const double cut_to = options.decode_budget > 0 ? options.decode_budget : budget;
    const double growing = before.rows + 1;
    double most = budget;
    if (session_.tokens() == before.tokens + 1 && before.tokens > 0) {
      most =
          options.interval > 0
              ? std::min(growing, std::max(cut_to + static_cast<double>(options.interval), cut_to))
              : growing;
    } else if (session_.tokens() == before.tokens) {
      most = std::max(before.rows, budget);
    }
    if (mean_rows() > most + 1e-6) {
      throw Finding("bounds", fmt::format("{}: {} tokens per head with budget {}", where_,
                                          mean_rows(), most));
    }
  }

  void reopen(size_t i) {
    if (i % 3 == 2) {
      session_ = session_.fork();
      return;
    }
    const SparseOptions sparse = session_.options().sparse;
    const std::string path = fmt::format("session-{}.rkv", getpid());
    session_.save(path);
    session_ = Session::load(model_, path);
    session_.set_sparse(sparse);
    std::filesystem::remove(path);
  }

  const Setting& setting_;
  const Model& model_;
  Manner manner_;
  Session session_;
  uint64_t fed_ = 0;
  std::string where_;
  Transcript transcript_;
};

Transcript play(const Setting& setting, const Options& options, const Manner& manner) {
  set_num_threads(manner.threads);
  fill_memory(manner.fill);
  std::optional<Model> model;
  std::optional<Player> player;
  try {
    model.emplace(setting.model, options.model);
    player.emplace(setting, *model, options, manner);
  } catch (const Error&) {
    // A profile for other layers, or this processor, or the instruction set in use, lacks what a
    // precision needs.
    Transcript refused;
    refused.refused = true;
    return refused;
  }
  return player->play();
}

void expect_same(std::string_view promise, const Transcript& a, const Transcript& b,
                 double tolerance) {
  if (a.refused != b.refused) throw Finding(promise, "one is refused, the other is not");
  if (tolerance == 0 && a.refusals != b.refusals) {
    throw Finding(promise, fmt::format("refused is {} against {}",
                                       a.refusals.empty() ? "nothing" : a.refusals[0],
                                       b.refusals.empty() ? "nothing" : b.refusals[0]));
  }
  if (a.logits.size() != b.logits.size()) throw Finding(promise, "one goes on for longer");
  for (size_t i = 0; i < a.logits.size(); ++i) {
    const std::vector<float>& x = a.logits[i];
    const std::vector<float>& y = b.logits[i];
    if (x.size() != y.size()) throw Finding(promise, "one has logits, the other has none");
    double error = 0;
    double norm = 1e-30;
    for (size_t j = 0; j < x.size(); ++j) {
      error += (x[j] - y[j]) * (x[j] - y[j]);
      norm += y[j] * y[j];
    }
    const double off = std::sqrt(error / norm);
    if (!(off <= tolerance)) {
      throw Finding(promise, fmt::format("logits {} of {} differ by {:.3g} of their size", i + 1,
                                         a.logits.size(), off));
    }
  }
}

class SessionKind : public Kind {
 public:
  SessionKind() : flags_(session_flags()) {}

  [[nodiscard]] std::string_view name() const override { return "session"; }

  Case make(Random& random) override {
    const std::string model = any_model_file(random);
    Case words{
        model,
        fmt::format("{}{}", kSimd, testing::simd_target_name(random.any(testing::simd_targets()))),
        fmt::format("{}{}", kThreads, random.once_in(3) ? 5 : 2)};
    if (random.once_in(3))
      words.push_back(std::string(kText) + (random.once_in(3) ? "one" : "few"));
    const std::vector<std::string> options = session_words(random, flags_, model);
    words.insert(words.end(), options.begin(), options.end());
    if (random.once_in(12)) words.push_back(odd(random, random.any(flags_)));
    constexpr std::array kLengths{1, 5, 30, 31, 32, 33, 40, 64, 65, 100, 200, 300, 513, 700};
    words.push_back(fmt::format("read:{}", random.any(kLengths)));
    for (size_t i = random.below(7); i > 0; --i) {
      constexpr std::array kTurns{1, 2, 3, 10, 31, 60, 150};
      switch (random.below(7)) {
        case 0:
        case 1:
          words.push_back(fmt::format("read:{}", random.any(kTurns)));
          break;
        case 2:
        case 3:
        case 4:
          words.push_back(fmt::format("say:{}", 1 + random.below(30)));
          break;
        case 5:
          words.emplace_back("cut");
          break;
        default: {
          constexpr std::array kBudgets{"1", "8", "33", "34", "48", "64", "100", "200", "600"};
          if (random.once_in(4)) {
            constexpr std::array kPatterns{"dense", "sampled", "xattention", "a-shape:local=1"};
            words.push_back(fmt::format("sparse:{}", random.any(kPatterns)));
          } else {
            words.push_back(fmt::format("budget:{}", random.any(kBudgets)));
          }
        }
      }
    }
    return words;
  }

  Verdict run(const Case& words) override {
    const Setting setting = parse(words);
    make_model_file(setting.model);
    for (const int64_t target : testing::simd_targets()) {
      if (setting.simd.empty() || testing::simd_target_name(target) == setting.simd) {
        const testing::ForcedSimdTarget forced(target);
        const std::optional<Options> options = options_of(setting.flags);
        return options ? run(setting, *options, target) : Verdict{.refused = true};
      }
    }
    return {.refused = true};
  }

 private:
  static Verdict run(const Setting& setting, const Options& options, int64_t target) {
    const Transcript plain = play(setting, options, {});
    if (plain.refused) return {.refused = true, .held = {"refused by the model"}};
    Verdict verdict{
        .held = {"refusals, blame, bounds", "simd " + testing::simd_target_name(target)}};
    const auto held = [&](std::string_view promise) { verdict.held.emplace_back(promise); };

    expect_same("repeated", play(setting, options, {.threads = setting.threads, .fill = 0xAA}),
                plain, 0);
    held("repeated");
    expect_same("saved", play(setting, options, {.saving = true}), plain, 0);
    held("saved");

    Options full = options;
    full.session.compression = default_options("full");
    full.session.decode_budget = 0;
    full.session.compact_positions = false;
    if (plain.refusals.empty() &&
        Model(setting.model, options.model).config().global_layers() == 0) {
      // Compact positions go on beyond a model's context, and then turn keys now and then. A longer
      // context is the same model unless it is stretched.
      Setting endless = setting;
      if (options.session.compact_positions) endless.model = without_context(setting.model);
      const bool turned = endless.model != setting.model;
      const bool exact =
          options.session.kv_type == KvType::kF32 && options.model.rope_scaling.empty();
      if (!turned || exact) {
        make_model_file(endless.model);
        expect_same("windows", plain, play(endless, full, {.changing_budget = false}),
                    turned ? 0.03 : 0);
        held(turned ? "windows, beyond the context" : "windows");
      }
    }

    Options roomy = options;
    roomy.session.compression.budget = 1 << 20;
    roomy.session.compression.tolerance = 0;
    roomy.session.decode_budget = 0;
    const Transcript whole = play(setting, roomy, {.changing_budget = false});
    if (!whole.refused) {
      expect_same("identity", whole, play(setting, full, {.changing_budget = false}), 0.03);
      held("identity");
    }
    return verdict;
  }

  std::vector<Flag> flags_;
};

}  // namespace

std::unique_ptr<Kind> session_kind() { return std::make_unique<SessionKind>(); }

}  // namespace restkv::fuzz
