// What holds of every session, whatever its options: cuts, positions and snapshots over all methods
// and allocations, on models whose layers see everything, a window, or some of each.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/threads.h"
#include "engine/streams.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/own_options.h"
#include "support/refusal.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::refusal_if_any;

constexpr size_t kContext = 400;
constexpr size_t kSlidingWindow = 60;  // more than most of the budgets below

class StreamTest : public ::testing::Test {
 protected:
  StreamTest() {
    testing::TinyModel tiny;
    tiny.layers = 3;
    tiny.context = kContext;
    tiny.ffn_width = 64;
    tiny.experts = 5;
    all_see_everything_.emplace(write(tiny));
    tiny.experts = 0;
    tiny.window = kSlidingWindow;
    all_have_windows_.emplace(write(tiny));
    tiny.architecture = "gemma3";
    tiny.layers = 4;
    tiny.window_pattern = 2;
    some_have_windows_.emplace(write(tiny));
    std::ofstream(profile_) << R"({"shares": [3, 1, 1]})";
    const ModelConfig& c = all_see_everything_->config();
    testing::StatisticsFile::of(c.layers, c.query_heads, c.rope.dim / 2, c.kv_heads, c.width)
        .write(statistics_);
  }
  ~StreamTest() override { set_num_threads(threads_); }

  std::string write(const testing::TinyModel& model) {
    const std::string path = folder_.file("model" + std::to_string(files_++) + ".gguf");
    model.write(path);
    return path;
  }

  /// Every method with every allocation, and what changes how a stream is cut.
  [[nodiscard]] std::vector<SessionOptions> all_options() const {
    std::vector<SessionOptions> all;
    for (const Method& method : methods()) {
      for (const Allocation& allocation : allocations()) {
        SessionOptions options;
        options.compression = method.defaults;
        options.compression.allocation = allocation.name;
        options.compression.budget = 40;
        testing::set_if_own(options.compression, "future", 16);
        testing::set_if_own(options.compression, "lag", 9);
        options.compression.profile = profile_;
        options.compression.statistics = statistics_;
        testing::set_if_own(options.compression, "repeat_chunk", 30);
        options.repeat.emplace();  // without words
        all.push_back(options);
        if (method.name == "knorm") all.back().compression.own["skip_layers"] = 1;
        for (const bool compact : {false, true}) {
          options.compact_positions = compact;
          options.interval = 1 + all.size() % 7;
          options.decode_budget = all.size() % 3 == 0 ? 35 : 0;
          options.chunk = all.size() % 2 == 0 ? 50 : 0;
          options.compression.per_query_head = all.size() % 5 == 0;
          options.compression.critical = all.size() % 4 == 0;
          options.compression.merge = all.size() % 3 == 1 && !options.compression.per_query_head &&
                                      !reallocates(options.compression);
          options.kv_type = all.size() % 6 == 0 ? KvType::kQ4 : KvType::kF16;
          all.push_back(options);
        }
      }
    }
    return all;
  }

  static std::string describe(const SessionOptions& o) {
    return o.compression.method + ", " + o.compression.allocation +
           (o.compact_positions ? ", compact" : "") +
           (o.compression.per_query_head ? ", per query head" : "") +
           (o.compression.critical ? ", critical" : "") + (o.compression.merge ? ", merge" : "") +
           ", interval " + std::to_string(o.interval) + ", decode budget " +
           std::to_string(o.decode_budget) + ", chunk " + std::to_string(o.chunk) + ", skipped " +
           std::to_string(testing::skipped_layers(o.compression));
  }

  int threads_ = num_threads();
  size_t files_ = 0;
  testing::TemporaryFolder folder_;
  std::string profile_ = folder_.file("profile.json");
  std::string statistics_ = folder_.file("statistics.json");
  std::optional<Model> all_see_everything_, some_have_windows_, all_have_windows_;
};

/// Rows stand where they can, and are no more than may be kept: `most` per head on average.
void check_cache(const Model& model, const Session& session, size_t most) {
  const ModelConfig& c = model.config();
  const KvCache& cache = session.cache();
  const SessionOptions& options = session.options();
  size_t kept = 0;
  size_t heads = 0;
  size_t skipped = testing::skipped_layers(options.compression);  // of those that take part
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    const size_t window = c.windows[layer];
    const bool whole = window == 0 && skipped > 0;
    if (whole) --skipped;
    for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
      const auto positions = cache.positions(layer, h);
      ASSERT_EQ(positions.size(), cache.heads(layer)[h].count);
      ASSERT_TRUE(std::is_sorted(positions.begin(), positions.end(), std::less_equal<>()));
      if (!positions.empty()) {
        ASSERT_GE(positions.front(), 0) << "layer " << layer;
        const size_t end = window > 0 && options.compact_positions ? c.context_length + window
                                                                   : cache.next_position;
        ASSERT_LT(static_cast<size_t>(positions.back()), end) << "layer " << layer;
      }
      if (window > 0) {
        ASSERT_EQ(positions.size(), std::min(session.tokens(), window));
      } else if (!whole) {
        kept += positions.size();
        ++heads;
      }
    }
  }
  if (options.compression.method != "full") {
    ASSERT_LE(kept, heads * most);
  }
  ASSERT_LE(cache.next_position, c.context_length);
}

/// A turn, an answer, and what is cut after it.
void take_turn(const Model& model, Session& session, size_t turn) {
  const auto finite = [](std::span<const float> logits) {
    return std::ranges::all_of(logits, [](float x) { return std::isfinite(x); });
  };
  const SessionOptions options = session.options();
  const auto budget = static_cast<size_t>(options.compression.budget);
  const size_t decoding =
      options.decode_budget > 0 ? static_cast<size_t>(options.decode_budget) : budget;
  ASSERT_TRUE(finite(session.append(tokens_of(turn == 0 ? 90 : 25, turn + 1))));
  check_cache(model, session, budget);
  for (int32_t i = 0; i < 9; ++i) {
    ASSERT_TRUE(finite(session.append((i * 53 + 7) % 256)));
    const size_t grown = options.interval > 0 ? std::max(decoding + options.interval - 1, budget)
                                              : budget + static_cast<size_t>(i) + 1;
    check_cache(model, session, grown);
  }
  session.compress();
  check_cache(model, session, budget);
}

TEST_F(StreamTest, CutsKeepTheirPromisesAndFilesAndForksGoOnAlike) {
  set_num_threads(1);
  size_t taken = 0;
  size_t refused = 0;
  for (const Model* model : {&*all_see_everything_, &*some_have_windows_, &*all_have_windows_}) {
    for (const SessionOptions& options : all_options()) {
      SCOPED_TRACE(describe(options) + ", " + std::to_string(model->config().global_layers()) +
                   " layers");
      std::optional<Session> session;
      if (!refusal_if_any([&] { session.emplace(*model, options); }).empty()) {
        ++refused;
        continue;
      }
      ++taken;
      take_turn(*model, *session, 0);
      const std::string path = folder_.file("saved.rkv");
      session->save(path);
      Session fork = session->fork();
      Session loaded = Session::load(*model, path);
      // Another budget is where a session without a past of its own may lack something.
      for (Session* s : {&*session, &fork, &loaded}) {
        if (options.compression.method == "full") {
          EXPECT_NE(refusal_if_any([&] { s->set_budget(37); }).find("keeps everything"),
                    std::string::npos);
        } else {
          s->set_budget(37);
        }
        s->compress();
        check_cache(*model, *s, 37);
        take_turn(*model, *s, 1);
        if (HasFatalFailure()) return;
      }
      EXPECT_EQ(copy(fork.logits()), copy(session->logits()));
      EXPECT_EQ(copy(loaded.logits()), copy(session->logits()));
      for (size_t turn = 2; turn < 5; ++turn) take_turn(*model, *session, turn);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(taken, 200U);
  EXPECT_GT(refused, 50U);
}

// Where cache heads are query heads, a turn that cuts nothing joins them as single tokens do.
TEST_F(StreamTest, AShortTurnJoinsHeadsPerQueryHead) {
  SessionOptions options;
  options.compression = default_options("snapkv");
  options.compression.budget = 40;
  options.compression.per_query_head = true;
  options.kv_type = KvType::kF32;
  Session read(*all_see_everything_, options);
  read.append(tokens_of(100));
  read.set_budget(80);
  Session said = read.fork();
  const std::vector<int32_t> turn = tokens_of(5, 2);
  read.append(turn);
  for (const int32_t token : turn) said.append(token);
  const size_t query_heads = all_see_everything_->config().query_heads;
  for (size_t layer = 0; layer < read.cache().layers(); ++layer) {
    ASSERT_EQ(read.cache().heads(layer).size(), query_heads);
    for (size_t h = 0; h < query_heads; ++h) {
      EXPECT_TRUE(
          std::ranges::equal(read.cache().positions(layer, h), said.cache().positions(layer, h)));
    }
  }
  ASSERT_EQ(read.logits().size(), said.logits().size());
  for (size_t i = 0; i < read.logits().size(); ++i) {
    EXPECT_NEAR(read.logits()[i], said.logits()[i], 1e-3F);
  }
}

TEST_F(StreamTest, ThreadsDoNotMatter) {
  for (const Model* model : {&*all_see_everything_, &*some_have_windows_}) {
    size_t i = 0;
    for (const SessionOptions& options : all_options()) {
      if (++i % 4 != 0) continue;
      SCOPED_TRACE(describe(options));
      std::vector<std::vector<float>> logits;
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        std::optional<Session> session;
        if (!refusal_if_any([&] { session.emplace(*model, options); }).empty()) break;
        take_turn(*model, *session, 0);
        logits.push_back(copy(session->logits()));
      }
      if (logits.empty()) continue;
      EXPECT_EQ(logits.front(), logits.back());
    }
  }
}

TEST_F(StreamTest, ABudgetThatHoldsEverythingIsTheFullCache) {
  set_num_threads(1);
  const auto say = [&](const Model& model, const SessionOptions& options) {
    Session session(model, options);
    session.append(tokens_of(90, 1));
    for (int32_t i = 0; i < 10; ++i) session.append(i);
    session.compress();
    return copy(session.append(tokens_of(30, 2)));
  };
  for (const Model* model : {&*all_see_everything_, &*some_have_windows_}) {
    SessionOptions full;
    full.compression = default_options("full");
    const std::vector<float> expected = say(*model, full);
    for (SessionOptions options : all_options()) {
      options.compression.budget = 130;
      options.decode_budget = 0;
      options.chunk = 0;
      options.kv_type = KvType::kF16;
      SCOPED_TRACE(describe(options));
      if (!refusal_if_any([&] { Session(*model, options); }).empty()) continue;
      // Who observes all queries has all outputs of the last layer computed: other rounding.
      const std::vector<float> logits = say(*model, options);
      for (size_t t = 0; t < expected.size(); ++t) ASSERT_NEAR(logits[t], expected[t], 1e-4);
    }
  }
}

// Only distances matter within a window: the numbers of tokens are none of its business, nor is the
// budget, which is for other layers.
TEST_F(StreamTest, WindowsComputeTheSameWithCompactPositionsAtAnyBudget) {
  set_num_threads(1);
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ4}) {
    const auto say = [&](SessionOptions options) {
      options.kv_type = type;
      Session session(*all_have_windows_, options);
      std::vector<std::vector<float>> logits;
      for (size_t turn = 0; turn < 3; ++turn) {
        logits.push_back(copy(session.append(tokens_of(turn == 0 ? 150 : 20, turn + 1))));
        for (int32_t i = 0; i < 30; ++i) logits.push_back(copy(session.append(i)));
        session.compress();
      }
      return logits;
    };
    for (const size_t chunk : {0, 70}) {
      SessionOptions options;
      options.compression = default_options("streaming-llm");
      options.chunk = chunk;
      const auto expected = say(options);
      options.compact_positions = true;
      for (const int budget : {5, 20, 59, 60, 61, 100, 300}) {
        for (const size_t interval : {0, 1, 16}) {
          options.compression.budget = budget;
          options.interval = interval;
          ASSERT_EQ(say(options), expected) << "budget " << budget << ", interval " << interval;
        }
      }
    }
  }
}

// A window's positions begin anew before they pass context + window, which changes rounding only.
TEST_F(StreamTest, WindowsGoOnForEver) {
  set_num_threads(1);
  testing::TinyModel tiny;
  tiny.context = 80;
  tiny.window = 30;
  const Model small(write(tiny));
  tiny.context = 4000;
  const Model large(write(tiny));
  SessionOptions options;
  options.compression = default_options("streaming-llm");
  options.compression.budget = 20;
  options.kv_type = KvType::kF32;
  options.chunk = 25;
  options.interval = 10;
  Session expected(large, options);
  options.compact_positions = true;
  Session session(small, options);
  int32_t highest = 0;
  for (size_t turn = 0; turn < 20; ++turn) {
    for (Session* s : {&expected, &session}) s->append(tokens_of(61, turn + 1));
    for (int32_t i = 0; i < 40; ++i) {
      const auto a = expected.append(i);
      const auto b = session.append(i);
      for (size_t t = 0; t < a.size(); ++t) ASSERT_NEAR(a[t], b[t], 1e-3) << "turn " << turn;
      for (size_t layer = 0; layer < small.config().layers; ++layer) {
        const auto positions = session.cache().positions(layer, 1);
        ASSERT_GE(positions.front(), 0);
        highest = std::max(highest, positions.back());
      }
    }
  }
  EXPECT_LT(highest, 80 + 30);
  EXPECT_GE(highest, 80);
}

// What `room_after` promises is exactly what can be appended, and nothing is read of what does not
// fit.
TEST_F(StreamTest, RoomIsKnownBeforeAnythingIsRead) {
  set_num_threads(1);
  testing::TinyModel tiny;
  tiny.context = 64;
  const Model global(write(tiny));
  tiny.window = 12;
  const Model windowed(write(tiny));
  tiny.window = 0;
  tiny.layers = 4;
  const Model ladder(write(tiny));
  size_t bounded = 0;
  size_t unlimited = 0;
  size_t none = 0;
  for (const Model* model : {&global, &windowed, &ladder}) {
    for (size_t i = 0; i < 150; ++i) {
      const bool climbs = model == &ladder;
      SessionOptions options;
      options.compression = default_options(climbs         ? "lacache"
                                            : i % 11 == 10 ? "full"
                                                           : "streaming-llm");
      options.compression.budget = static_cast<int>(12 + i * 7 % 60);
      testing::set_if_own(options.compression, "ladder_span",
                          climbs ? 1 + static_cast<int>(i % 2) : 0);
      options.compact_positions = i % 5 != 0;
      options.chunk = i % 3 == 0 ? 0 : 1 + i * 5 % 40;
      options.interval = i % 4 < 2 ? 0 : 1 + i * 3 % 50;
      options.decode_budget = i % 4 == 3 ? static_cast<int>(10 + i % 45) : 0;
      Session session(*model, options);
      SCOPED_TRACE(describe(options) + ", budget " + std::to_string(options.compression.budget));
      for (const size_t prompt : {1 + i * 13 % 70, size_t{1}, 1 + i * 17 % 50}) {
        const std::optional<size_t> room = session.room_after(prompt);
        const size_t read = session.tokens();
        const std::string answer = refusal_if_any([&] { session.append(tokens_of(prompt, i)); });
        ASSERT_EQ(answer.empty(), room.has_value()) << prompt << " tokens: " << answer;
        if (!room) {
          ++none;
          EXPECT_EQ(session.tokens(), read);
          EXPECT_NE(answer.find("context of 64"), std::string::npos) << answer;
          EXPECT_EQ(answer.find("number kept tokens anew") != std::string::npos,
                    !options.compact_positions)
              << answer;
          break;
        }
        ++(*room == Session::kUnlimited ? unlimited : bounded);
        Session fork = session.fork();
        for (size_t t = 0; t < std::min<size_t>(*room, 100); ++t) fork.append(7);
        if (*room < 100) {
          const std::string end = refusal_if_any([&] { fork.append(7); });
          EXPECT_NE(end.find("context of 64"), std::string::npos) << *room << " tokens: " << end;
        }
        for (size_t t = 0; t < std::min<size_t>(*room, i % 7); ++t) session.append(9);
      }
    }
  }
  EXPECT_GT(bounded, 100U);
  EXPECT_GT(unlimited, 100U);
  EXPECT_GT(none, 50U);
}

// Refused where the options meet the model, not in the middle of a prompt.
TEST_F(StreamTest, OptionsThatDoNotSuitTheModelAreRefusedAtOnce) {
  testing::TinyModel tiny;
  tiny.layers = 8;
  const Model eight(write(tiny));
  tiny.architecture = "gemma3";
  tiny.layers = 7;
  tiny.window = 30;
  const Model one_of_seven(write(tiny));
  ASSERT_EQ(one_of_seven.config().global_layers(), 1U);

  SessionOptions options;
  options.compression = default_options("lacache");
  options.compression.budget = 12;
  const auto session = [&](const Model& model) {
    return refusal_if_any([&] { Session(model, options); });
  };
  const auto prefill = [&](const Model& model) {
    Engine engine(model);
    CacheRequest request;
    request.options = options.compression;
    return refusal_if_any([&] { engine.prefill(tokens_of(5, 1), {&request, 1}); });
  };
  const auto expect_refused = [&](const Model& model, const std::string& what) {
    for (const std::string& answer : {session(model), prefill(model)}) {
      EXPECT_NE(answer.find(what), std::string::npos) << answer;
    }
  };
  expect_refused(eight,
                 "budget 12 is too small for a ladder over 8 layers after 4 sinks; raise it "
                 "to 13 or more");
  options.compression.budget = 13;
  EXPECT_EQ(session(eight), "");
  EXPECT_EQ(prefill(eight), "");
  options.compression.budget = 60;
  options.compression.own["ladder_span"] = 8;
  expect_refused(eight, "ladder_span is 8");
  options.compression.own["ladder_span"] = 0;
  options.compression.own["ladder_overlap"] = 4;
  expect_refused(eight, "ladder_overlap is 4; it must be less than ladder_span, which is 4");
  options.compression.own["ladder_overlap"] = 0;
  expect_refused(one_of_seven, "only 1 of 7 layers");
  EXPECT_EQ(session(*all_have_windows_), "");  // where nothing is compressed

  // The budget of answers, and a later one.
  options.interval = 5;
  options.decode_budget = 11;
  EXPECT_NE(session(eight).find("budget 11 is too small"), std::string::npos) << session(eight);
  options.decode_budget = 0;
  Session changed(eight, options);
  EXPECT_NE(refusal_if_any([&] { changed.set_budget(12); }).find("budget 12 is too small"),
            std::string::npos);
  EXPECT_EQ(changed.options().compression.budget, 60);

  options.compression = default_options("knorm");
  options.compression.own["skip_layers"] = 8;
  expect_refused(eight, "skip_layers is 8");
  options.compression.own["skip_layers"] = 7;
  EXPECT_EQ(session(eight), "");
  options.compression.own["skip_layers"] = 1;
  expect_refused(one_of_seven, "skip_layers is 1");
  options.compact_positions = true;
  EXPECT_NE(session(eight).find("skip_layers 0"), std::string::npos) << session(eight);
  options.compact_positions = false;

  options.compression = default_options("snapkv");
  options.compression.budget = 40;
  options.compression.allocation = "profile";
  options.compression.profile = profile_;
  expect_refused(eight, "it has 3 layers, but the model has 8");
  expect_refused(one_of_seven, "it has 3 layers, but the model has 1 beside 6 that keep");
  std::ofstream(profile_) << R"({"counts": [50, 50, 50]})";
  expect_refused(*all_see_everything_, "a budget of 40 allows");
  std::ofstream(profile_) << R"({"counts": [40, [31, 40], 40]})";
  expect_refused(*all_see_everything_, "less than the 32 that are always kept");
  std::ofstream(profile_) << R"({"counts": [40, [32, 48], 40]})";
  EXPECT_EQ(session(*all_see_everything_), "");
}

}  // namespace
}  // namespace restkv
