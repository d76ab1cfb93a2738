#include "fuzz/together_case.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/threads.h"
#include "engine/decode.h"
#include "engine/evict.h"
#include "engine/prefill.h"
#include "engine/snapshot.h"
#include "fuzz/files.h"
#include "fuzz/flags.h"
#include "fuzz/play.h"
#include "generate/batch.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/simd.h"

namespace restkv::fuzz {
namespace {

constexpr std::string_view kSimd = "simd:";
constexpr std::string_view kThreads = "threads:";
constexpr std::string_view kText = "text:";
constexpr std::string_view kSay = "say:";
constexpr std::string_view kDefaultModel = "tiny-llama.Q8_0.gguf";
/// A prompt that is slow makes so many steps of the batch at most.
constexpr size_t kMostPauses = 12;

struct Step {
  std::optional<size_t> member;  ///< None: the batch.
  std::string name;
  std::string argument;
};

/// What the words of a case say.
struct Setting {
  std::string model{kDefaultModel};
  std::string simd;
  int threads = 2;
  std::string text = "many";
  bool sequences = false;
  std::vector<std::string> model_flags;
  std::map<size_t, std::vector<std::string>> members;  ///< Their flags.
  std::vector<Step> steps;
};

Setting parse(const Case& words) {
  Setting setting;
  for (const std::string& word : words) {
    if (word.starts_with("--")) {
      setting.model_flags.push_back(word);
    } else if (word.ends_with(".gguf")) {
      setting.model = word;
    } else if (word.starts_with(kSimd)) {
      setting.simd = word.substr(kSimd.size());
    } else if (word.starts_with(kThreads)) {
      setting.threads = std::stoi(word.substr(kThreads.size()));
    } else if (word.starts_with(kText)) {
      setting.text = word.substr(kText.size());
    } else if (word == "level:sequences") {
      setting.sequences = true;
    } else if (word.starts_with(kSay)) {
      setting.steps.push_back({std::nullopt, "say", word.substr(kSay.size())});
    } else if (!word.empty() && std::isdigit(static_cast<unsigned char>(word[0])) != 0) {
      const auto member = static_cast<size_t>(word[0] - '0');
      auto& flags = setting.members[member];
      if (word.compare(1, 2, "--") == 0) {
        flags.push_back(word.substr(1));
      } else if (word.size() > 2) {
        const size_t colon = std::min(word.find(':', 2), word.size());
        setting.steps.push_back(
            {member, word.substr(2, colon - 2), colon < word.size() ? word.substr(colon + 1) : ""});
      }
    }
  }
  return setting;
}

// --- A session, or what is below it --------------------------------------------------------------

/// One of those that are played.
class Member {
 public:
  virtual ~Member() = default;
  /// Reads a prompt, with a call of `between` after each step of it.
  virtual void read(std::span<const int32_t> tokens, const std::function<void()>& between) = 0;
  [[nodiscard]] virtual std::span<const float> logits() const = 0;
  [[nodiscard]] virtual const KvCache& cache() const = 0;
  virtual void cut() = 0;
  virtual void set_budget(int budget) = 0;
  virtual void fork() = 0;
  virtual void save_and_load(const std::string& path) = 0;
};

/// Makes members, and decodes a token for each of several.
class Company {
 public:
  virtual ~Company() = default;
  /// Throws `Error` on options that the model cannot use.
  virtual std::unique_ptr<Member> make(const SessionOptions& options) = 0;
  virtual void decode(std::span<const int32_t> tokens, std::span<Member* const> members) = 0;
};

class SessionMember : public Member {
 public:
  SessionMember(const Engine& engine, const SessionOptions& options)
      : session(engine, options), engine_(engine) {}

  void read(std::span<const int32_t> tokens, const std::function<void()>& between) override {
    session.append(tokens, [&](double) {
      between();
      return true;
    });
  }
  [[nodiscard]] std::span<const float> logits() const override { return session.logits(); }
  [[nodiscard]] const KvCache& cache() const override { return session.cache(); }
  void cut() override { session.compress(); }
  void set_budget(int budget) override { session.set_budget(budget); }
  void fork() override { session = session.fork(); }
  void save_and_load(const std::string& path) override {
    const SparseOptions sparse = session.options().sparse;
    session.save(path);
    session = Session::load(engine_, path);
    session.set_sparse(sparse);
  }

  Session session;

 private:
  const Engine& engine_;
};

class Sessions : public Company {
 public:
  explicit Sessions(const Model& model) : engine_(model) {}

  std::unique_ptr<Member> make(const SessionOptions& options) override {
    return std::make_unique<SessionMember>(engine_, options);
  }
  void decode(std::span<const int32_t> tokens, std::span<Member* const> members) override {
    std::vector<Session*> sessions;
    for (Member* member : members) {
      sessions.push_back(&dynamic_cast<SessionMember&>(*member).session);
    }
    Session::append_together(sessions, tokens);
  }

 private:
  Engine engine_;
};

class SequenceMember : public Member {
 public:
  SequenceMember(const Model& model, Workspace& workspace, const SessionOptions& options)
      : model_(model), workspace_(workspace), sparse_(model.config()) {
    sequence.options = options;
    begin_sequence(model, sequence);
    sparse_.set(options.sparse);
  }

  void read(std::span<const int32_t> tokens, const std::function<void()>& between) override {
    const size_t chunk = sequence.options.chunk > 0 ? sequence.options.chunk : tokens.size();
    for (size_t done = 0; done < tokens.size();) {
      const size_t count = std::min(chunk, tokens.size() - done);
      SequenceSink sink(model_, workspace_, sequence, count);
      Prefill prefill(model_, workspace_, tokens.subspan(done, count), sink, sparse_);
      for (size_t i = 0; prefill.step(i % 2 == 0 ? Stride::kBlock : Stride::kPart); ++i) between();
      prefill.last_logits(sequence.logits);
      done += count;
    }
  }
  [[nodiscard]] std::span<const float> logits() const override { return sequence.logits; }
  [[nodiscard]] const KvCache& cache() const override { return sequence.cache; }
  void cut() override {
    if (sequence.tokens == 0) return;
    evict(model_, workspace_, sequence, sequence.options.compression.budget);
  }
  void set_budget(int budget) override {
    CompressionOptions changed = sequence.options.compression;
    changed.budget = budget;
    validate(changed, model_.config().cache_shape());
    sequence.options.compression = changed;
  }
  void fork() override {
    Sequence copy = sequence;
    sequence = std::move(copy);
  }
  void save_and_load(const std::string& path) override {
    const SparseOptions sparse = sequence.options.sparse;
    save_snapshot(model_, sequence, "", path);
    sequence = load_snapshot(model_, path).sequence;
    sequence.options.sparse = sparse;
  }

  Sequence sequence;

 private:
  const Model& model_;
  Workspace& workspace_;
  SparsePrefill sparse_;
};

class Sequences : public Company {
 public:
  explicit Sequences(const Model& model) : model_(model), workspace_(model) {}

  std::unique_ptr<Member> make(const SessionOptions& options) override {
    return std::make_unique<SequenceMember>(model_, workspace_, options);
  }
  void decode(std::span<const int32_t> tokens, std::span<Member* const> members) override {
    std::vector<Sequence*> sequences;
    for (Member* member : members) {
      sequences.push_back(&dynamic_cast<SequenceMember&>(*member).sequence);
    }
    restkv::decode(model_, workspace_, tokens, sequences);
  }

 private:
  const Model& model_;
  Workspace workspace_;
};

// --- A script, and what it gives -----------------------------------------------------------------

/// What one member computed.
struct Transcript {
  std::vector<size_t> logits;  ///< A hash each.
  std::vector<std::string> refusals;
  std::vector<std::vector<int32_t>> positions;  ///< [layer and head], at the end.
  size_t bytes = 0;
  bool operator==(const Transcript&) const = default;
};

size_t hash_of(std::span<const float> logits) {
  return std::hash<std::string_view>{}(
      {reinterpret_cast<const char*>(logits.data()), logits.size_bytes()});  // NOLINT
}

/// Tokens of one member: the same whenever it asks.
class Voice : public TokenSource {
 public:
  Voice(size_t member, std::string text) : fed_(1000 * member), text_(std::move(text)) {}

  std::optional<int32_t> next(std::span<const float> logits) override {
    transcript.logits.push_back(hash_of(logits));
    if (left == 0) return std::nullopt;
    --left;
    return nth_token(++fed_, text_);
  }
  std::vector<int32_t> prompt(size_t count) {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = nth_token(++fed_, text_);
    return tokens;
  }

  size_t left = 0;
  Transcript transcript;

 private:
  uint64_t fed_;
  std::string text_;
};

/// Steps of the batch that each slow prompt made room for, by the number of its step.
using Pauses = std::map<size_t, size_t>;

class Player {
 public:
  /// `only`: the member to play, with the `pauses` that were made when all were there.
  Player(const Setting& setting, const Model& model,
         const std::map<size_t, SessionOptions>& options, std::optional<size_t> only, Pauses pauses)
      : setting_(setting),
        context_(model.config().context_length),
        company_(setting.sequences ? std::unique_ptr<Company>(std::make_unique<Sequences>(model))
                                   : std::make_unique<Sessions>(model)),
        only_(only),
        pauses_(std::move(pauses)),
        batch_([this](auto tokens, auto members) { return decode(tokens, members); },
               [this](size_t member, const Batch::Cost&) { joined_.erase(member); }) {
    for (const auto& [number, its] : options) {
      if (only && *only != number) continue;
      try {
        auto member = company_->make(its);
        voices_.emplace(number, Voice(number, setting.text));
        members_.emplace(number, std::move(member));
      } catch (const Error&) {  // the model refuses them
      }
    }
  }

  /// Of each member that there is.
  std::map<size_t, Transcript> play() {
    for (size_t i = 0; i < setting_.steps.size(); ++i) {
      const Step& step = setting_.steps[i];
      where_ = fmt::format("step {} ({}{})", i + 1,
                           step.member ? fmt::format("{}:", *step.member) : "", step.name);
      if (!step.member) {
        for (size_t n = std::stoul(step.argument); n > 0; --n) batch_step();
      } else if (members_.contains(*step.member)) {
        play(*step.member, step, i);
      } else if (only_ && step.name == "slow") {
        for (size_t n = pauses_[i]; n > 0; --n) batch_step();
      }
    }
    std::map<size_t, Transcript> transcripts;
    for (auto& [number, member] : members_) {
      batch_.leave(number);
      joined_.erase(number);
      where_ = "the end";
      read(number, 3, [] {});  // sees all that is kept
      Transcript& transcript = voices_.at(number).transcript;
      const KvCache& cache = member->cache();
      for (size_t layer = 0; layer < cache.layers(); ++layer) {
        for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
          const std::span<const int32_t> positions = cache.positions(layer, h);
          transcript.positions.emplace_back(positions.begin(), positions.end());
        }
      }
      transcript.bytes = cache.kept_bytes();
      transcripts.emplace(number, std::move(transcript));
    }
    return transcripts;
  }

  [[nodiscard]] const Pauses& pauses() const { return pauses_; }
  /// The most that were decoded at once.
  [[nodiscard]] size_t most() const { return most_; }

 private:
  void play(size_t number, const Step& step, size_t index) {
    Member& member = *members_.at(number);
    Voice& voice = voices_.at(number);
    const auto argument = [&](size_t otherwise) {
      return step.argument.empty() ? otherwise : std::stoul(step.argument);
    };
    if (step.name == "read" || step.name == "slow") {
      batch_.leave(number);
      joined_.erase(number);
      size_t steps = 0;
      read(number, argument(1), [&] {
        if (only_ || step.name == "read" || steps == kMostPauses) return;
        ++steps;
        batch_step();
      });
      if (!only_) pauses_[index] = steps;
    } else if (step.name == "join") {
      if (joined_.contains(number) || member.logits().empty()) return;
      voice.left = argument(static_cast<size_t>(-1));
      joined_.insert(number);
      batch_.join(number, voice, member.logits());
    } else if (step.name == "leave") {
      batch_.leave(number);
      joined_.erase(number);
    } else if (step.name == "cut") {
      attempt(voice, [&] { member.cut(); });
    } else if (step.name == "budget") {
      // A method that keeps everything has none.
      attempt(voice, [&] { member.set_budget(static_cast<int>(argument(64))); });
    } else if (step.name == "fork") {
      member.fork();
    } else if (step.name == "save") {
      const std::string path = fmt::format("together-{}.rkv", getpid());
      member.save_and_load(path);
      std::filesystem::remove(path);
    }
  }

  void read(size_t number, size_t count, const std::function<void()>& between) {
    Member& member = *members_.at(number);
    Voice& voice = voices_.at(number);
    const std::vector<int32_t> tokens = voice.prompt(count);
    attempt(voice, [&] { member.read(tokens, between); });
    voice.transcript.logits.push_back(hash_of(member.logits()));
  }

  void attempt(Voice& voice, const std::function<void()>& action) const {
    try {
      action();
    } catch (const Finding&) {
      throw;
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kInvalidArgument) {
        throw Finding("blame", fmt::format("{}: {}", where_, e.what()));
      }
      voice.transcript.refusals.push_back(fmt::format("{}: {}", where_, e.what()));
    }
  }

  void batch_step() {
    for (const size_t number : std::set(joined_)) {
      if (members_.at(number)->cache().next_position < context_) continue;
      batch_.leave(number);  // there is no room for its token
      joined_.erase(number);
    }
    try {
      batch_.step();
    } catch (const Error& e) {
      throw Finding("decoding", fmt::format("{}: {}", where_, e.what()));
    }
  }

  Matrix<const float> decode(std::span<const int32_t> tokens, std::span<const size_t> numbers) {
    std::vector<Member*> members;
    for (const size_t number : numbers) members.push_back(members_.at(number).get());
    most_ = std::max(most_, members.size());
    company_->decode(tokens, members);
    logits_.clear();
    for (const Member* member : members) {
      logits_.insert(logits_.end(), member->logits().begin(), member->logits().end());
    }
    return {logits_.data(), members.size(), logits_.size() / members.size()};
  }

  const Setting& setting_;
  size_t context_;
  std::unique_ptr<Company> company_;
  std::optional<size_t> only_;
  Pauses pauses_;
  std::map<size_t, Voice> voices_;
  std::map<size_t, std::unique_ptr<Member>> members_;
  std::set<size_t> joined_;
  Batch batch_;
  std::vector<float> logits_;
  size_t most_ = 0;
  std::string where_;
};

void expect_same(size_t number, const Transcript& together, const Transcript& alone) {
  const auto fail = [&](const std::string& what) {
    throw Finding("together", fmt::format("session {} {}", number, what));
  };
  const size_t common = std::min(together.logits.size(), alone.logits.size());
  for (size_t i = 0; i < common; ++i) {
    if (together.logits[i] == alone.logits[i]) continue;
    fail(fmt::format("has other logits than alone: {} of {}", i + 1, common));
  }
  if (together.logits.size() != alone.logits.size()) fail("goes on for longer or shorter");
  if (together.refusals != alone.refusals) fail("is refused other things than alone");
  if (together.positions != alone.positions) fail("keeps other positions than alone");
  if (!(together == alone)) fail("takes other memory than alone");
}

// --- Cases ---------------------------------------------------------------------------------------

bool of_model(const std::string& flag) {
  return flag.starts_with("--rope-") || flag.starts_with("--linear") ||
         flag.starts_with("--attention");
}

class TogetherKind : public Kind {
 public:
  TogetherKind() : flags_(session_flags()) {}

  [[nodiscard]] std::string_view name() const override { return "together"; }

  Case make(Random& random) override {
    const std::string model = any_model_file(random);
    Case words{
        model,
        fmt::format("{}{}", kSimd, testing::simd_target_name(random.any(testing::simd_targets()))),
        fmt::format("{}{}", kThreads, random.once_in(3) ? 5 : 2)};
    if (random.once_in(4)) words.push_back(fmt::format("{}few", kText));
    if (random.once_in(2)) words.emplace_back("level:sequences");
    const size_t members = 3 + random.below(4);
    for (size_t m = 0; m < members; ++m) {
      for (const std::string& flag : session_words(random, flags_, model)) {
        if (!of_model(flag)) {
          words.push_back(fmt::format("{}{}", m, flag));
        } else if (m == 0 && random.once_in(2)) {
          words.push_back(flag);
        }
      }
    }
    constexpr std::array kLengths{1, 31, 33, 40, 64, 65, 100, 150, 200, 300};
    const auto put = [&](size_t member, const std::string& step) {
      words.push_back(fmt::format("{}:{}", member, step));
    };
    const auto say = [&] { words.push_back(fmt::format("{}{}", kSay, 1 + random.below(12))); };
    const auto prompt = [&](size_t member) {
      put(member, fmt::format("{}:{}", random.once_in(2) ? "slow" : "read", random.any(kLengths)));
      put(member, random.once_in(4) ? fmt::format("join:{}", random.below(10)) : "join");
    };
    for (size_t m = 0; m < members; ++m) {
      prompt(m);
      if (random.once_in(2)) say();
    }
    for (size_t i = 4 + random.below(9); i > 0; --i) {
      const size_t member = random.below(members);
      switch (random.below(10)) {
        case 0:
          prompt(member);
          break;
        case 1:
          put(member, "leave");
          break;
        case 2:
          put(member, "join");
          break;
        case 3:
          put(member, "fork");
          break;
        case 4:
          put(member, "save");
          break;
        case 5:
          put(member, "cut");
          break;
        case 6: {
          constexpr std::array kBudgets{33, 40, 64, 100, 300};
          put(member, fmt::format("budget:{}", random.any(kBudgets)));
          break;
        }
        default:
          say();
      }
    }
    say();
    return words;
  }

  Verdict run(const Case& words) override {
    const Setting setting = parse(words);
    make_model_file(setting.model);
    for (const int64_t target : testing::simd_targets()) {
      if (setting.simd.empty() || testing::simd_target_name(target) == setting.simd) {
        const testing::ForcedSimdTarget forced(target);
        return run(setting);
      }
    }
    return {.refused = true};
  }

 private:
  static Verdict run(const Setting& setting) {
    std::map<size_t, SessionOptions> options;
    for (const auto& [number, flags] : setting.members) {
      if (const auto its = options_of(flags)) options.emplace(number, its->session);
    }
    const auto of_all = options_of(setting.model_flags);
    if (options.empty() || !of_all) return {.refused = true};
    std::optional<Model> model;
    try {
      model.emplace(setting.model, of_all->model);
    } catch (const Error&) {  // this processor lacks what a precision needs
      return {.refused = true, .held = {"refused by the model"}};
    }

    set_num_threads(setting.threads);
    fill_memory(0xAA);
    Player all(setting, *model, options, std::nullopt, {});
    const std::map<size_t, Transcript> together = all.play();

    set_num_threads(1);
    fill_memory(0x55);
    for (const auto& [number, transcript] : together) {
      Player one(setting, *model, options, number, all.pauses());
      expect_same(number, transcript, one.play().at(number));
    }
    if (together.empty()) return {.refused = true, .held = {"refused by the model"}};
    return {.held = {fmt::format("together, {} at once", all.most()),
                     setting.sequences ? "together, one workspace" : "together, sessions"}};
  }

  std::vector<Flag> flags_;
};

}  // namespace

std::unique_ptr<Kind> together_kind() { return std::make_unique<TogetherKind>(); }

}  // namespace restkv::fuzz
