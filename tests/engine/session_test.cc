#include "restkv/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/threads.h"
#include "engine/streams.h"
#include "restkv/error.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

void expect_near(std::span<const float> a, std::span<const float> b, float tolerance) {
  ASSERT_EQ(a.size(), b.size());
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  EXPECT_LE(worst, tolerance);
}

SessionOptions session_options(const char* method, int budget) {
  SessionOptions options;
  options.compression = default_options(method);
  options.compression.budget = budget;
  options.kv_type = KvType::kF32;
  options.repeat.emplace();  // of methods that let the model repeat a prompt: without words
  return options;
}

/// Thousands of tiny steps are done sooner by one thread than by several that wait for each other.
class OneThread {
 public:
  OneThread() { set_num_threads(1); }
  ~OneThread() { set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = num_threads();
};

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    tiny_.context = 2000;
    tiny_.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
    const ModelConfig& c = model_->config();
    testing::StatisticsFile::of(c.layers, c.query_heads, c.rope.dim / 2, c.kv_heads, c.width)
        .write(statistics_);
  }

  /// The options of any method.
  [[nodiscard]] SessionOptions options_of(const Method& method, int budget) const {
    SessionOptions options = session_options(std::string(method.name).c_str(), budget);
    options.compression.statistics = statistics_;
    return options;
  }

  /// Most rows that a cache head holds, and rows of all heads of the fullest layer per head.
  static size_t longest_head(const KvCache& cache) {
    size_t longest = 0;
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
        longest = std::max(longest, cache.positions(layer, h).size());
      }
    }
    return longest;
  }
  static size_t rows(const KvCache& cache) {
    size_t total = 0;
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
        total += cache.positions(layer, h).size();
      }
    }
    return total;
  }
  [[nodiscard]] size_t heads() const { return model_->config().layers * model_->config().kv_heads; }

  testing::TinyModel tiny_;
  testing::TemporaryFolder folder_;
  std::string statistics_ = folder_.file("statistics.json");
  std::optional<Model> model_;
};

TEST_F(SessionTest, TheFirstPromptIsAPrefill) {
  for (const char* method : {"full", "restkv", "snapkv", "h2o", "expected-attention", "chunkkv",
                             "finch", "dropkv", "rkv", "leverage", "cake"}) {
    Session session(*model_, session_options(method, 80));
    Engine engine(*model_);
    CacheRequest request;
    request.options = session.options().compression;
    request.kv_type = KvType::kF32;
    const auto expected = engine.prefill(tokens_of(300), {&request, 1});
    EXPECT_EQ(copy(session.append(tokens_of(300))), expected) << method;
    for (size_t layer = 0; layer < request.cache.layers(); ++layer) {
      for (size_t h = 0; h < request.cache.heads(layer).size(); ++h) {
        EXPECT_TRUE(std::ranges::equal(session.cache().positions(layer, h),
                                       request.cache.positions(layer, h)))
            << method << " layer " << layer << " head " << h;
      }
    }
    EXPECT_EQ(session.tokens(), 300U);
  }
}

// Several caches come from one prompt: merging changes the values of its own alone.
TEST_F(SessionTest, MergingChangesItsOwnCacheOnly) {
  const auto request_for = [&](bool merge) {
    CacheRequest request;
    request.options = session_options("snapkv", 80).compression;
    request.options.merge = merge;
    request.kv_type = KvType::kF32;
    return request;
  };
  const auto values_of = [&](const KvCache& cache) {
    const ModelConfig& c = model_->config();
    const size_t n = cache.positions(1, 0).size();
    std::vector<float> keys(n * c.key_dim), values(n * c.value_dim);
    cache.read(1, 0, {keys.data(), n, c.key_dim}, {values.data(), n, c.value_dim});
    return values;
  };
  Engine engine(*model_);
  std::vector<CacheRequest> requests = {request_for(true), request_for(false), request_for(true)};
  engine.prefill(tokens_of(300), requests);
  CacheRequest plain = request_for(false);
  engine.prefill(tokens_of(300), {&plain, 1});
  EXPECT_EQ(values_of(requests[1].cache), values_of(plain.cache));
  EXPECT_EQ(values_of(requests[0].cache), values_of(requests[2].cache));
  EXPECT_NE(values_of(requests[0].cache), values_of(plain.cache));
  EXPECT_TRUE(std::ranges::equal(requests[0].cache.positions(1, 0), plain.cache.positions(1, 0)));

  SessionOptions options = session_options("snapkv", 80);
  options.compression.merge = true;
  Session session(*model_, options);
  session.append(tokens_of(300));
  EXPECT_EQ(values_of(session.cache()), values_of(requests[0].cache));
}

// Turns, chunks and single tokens over a cache that keeps everything are the whole prompt.
TEST_F(SessionTest, PiecesOfAPromptAreThePrompt) {
  const std::vector<int32_t> text = tokens_of(700);
  Engine engine(*model_);
  const auto expected = engine.prefill(text, {});
  Session turns(*model_, session_options("full", 1));
  size_t done = 0;
  for (const size_t turn : {100UL, 1UL, 33UL, 500UL, 2UL, 64UL}) {
    turns.append(std::span(text).subspan(done, turn));
    done += turn;
  }
  ASSERT_EQ(done, text.size());
  expect_near(turns.logits(), expected, 1e-4F);

  SessionOptions chunked = session_options("full", 1);
  chunked.chunk = 90;
  Session chunks(*model_, chunked);
  expect_near(chunks.append(text), expected, 1e-4F);

  // Within the budget nothing is dropped either.
  Session roomy(*model_, session_options("restkv", 700));
  roomy.append(std::span(text).first(300));
  expect_near(roomy.append(std::span(text).subspan(300)), expected, 1e-4F);
  EXPECT_EQ(longest_head(roomy.cache()), 700U);
}

TEST_F(SessionTest, ABeginningOfAnotherSessionIsAsGoodAsItsOwn) {
  const std::vector<int32_t> before = tokens_of(200);
  std::vector<int32_t> text(before.begin(), before.begin() + 150);
  const std::vector<int32_t> other = tokens_of(250, 9);
  text.insert(text.end(), other.begin(), other.end());
  for (const char* method :
       {"full", "restkv", "snapkv", "streaming-llm", "keydiff", "lagkv", "knorm"}) {
    SCOPED_TRACE(method);
    const SessionOptions options = session_options(method, 250);
    Session first(*model_, options);
    first.append(before);
    for (size_t i = 0; i < 10; ++i) first.append(static_cast<int32_t>(i));
    ASSERT_EQ(first.reusable_tokens(150, text.size()), 150U);
    Session copied = first.fork_beginning(150);
    EXPECT_EQ(copied.tokens(), 150U);
    EXPECT_TRUE(copied.logits().empty());
    EXPECT_THROW(copied.save(folder_.file("beginning.rkv")), Error);
    copied.append(std::span(text).subspan(150));
    Session fresh(*model_, options);
    fresh.append(text);
    expect_near(copied.logits(), fresh.logits(), 1e-4F);
    for (size_t layer = 0; layer < fresh.cache().layers(); ++layer) {
      for (size_t h = 0; h < fresh.cache().heads(layer).size(); ++h) {
        EXPECT_TRUE(std::ranges::equal(copied.cache().positions(layer, h),
                                       fresh.cache().positions(layer, h)));
      }
    }
    EXPECT_EQ(first.tokens(), 210U) << "who was copied stays as it is";
    first.append(7);
  }
}

TEST_F(SessionTest, BeginningsEndWhereACutLooksBackOrAChunkBegins) {
  const auto reusable = [&](SessionOptions options, size_t read, size_t common, size_t total) {
    Session session(*model_, options);
    session.append(tokens_of(read));
    return session.reusable_tokens(common, total);
  };
  SessionOptions restkv = session_options("restkv", 250);
  EXPECT_EQ(reusable(restkv, 200, 200, 200), 168U) << "the observation window is read again";
  EXPECT_EQ(reusable(restkv, 200, 200, 210), 178U);
  EXPECT_EQ(reusable(restkv, 200, 20, 24), 0U);
  EXPECT_EQ(reusable(session_options("full", 1), 200, 200, 200), 199U);
  SessionOptions chunked = restkv;
  chunked.chunk = 64;
  EXPECT_EQ(reusable(chunked, 200, 150, 400), 128U);
  chunked.chunk = 16;
  EXPECT_EQ(reusable(chunked, 200, 150, 400), 0U);
  EXPECT_EQ(reusable(restkv, 251, 150, 400), 0U) << "it was cut";
  EXPECT_EQ(reusable(session_options("h2o", 250), 200, 150, 400), 0U);
  EXPECT_EQ(reusable(session_options("expected-attention", 250), 200, 150, 400), 0U);
  SessionOptions repeated = session_options("kvzip", 250);
  repeated.repeat = RepeatPrompt{.first = {1, 2}, .later = {3}, .answer = {4}, .prefix = {}};
  EXPECT_EQ(reusable(repeated, 200, 150, 400), 0U);
  SessionOptions sparse = restkv;
  sparse.sparse.pattern = "a-shape";
  EXPECT_EQ(reusable(sparse, 200, 150, 400), 0U);

  testing::TinyModel windowed;
  windowed.architecture = "gemma3";
  windowed.layers = 6;
  windowed.window = 40;
  windowed.write(folder_.file("windowed.gguf"));
  const Model model(folder_.file("windowed.gguf"));
  Session session(model, session_options("full", 1));
  session.append(tokens_of(40));
  EXPECT_EQ(session.reusable_tokens(30, 100), 30U);
  session.append(tokens_of(1));
  EXPECT_EQ(session.reusable_tokens(30, 100), 0U) << "its windows have moved on";
  EXPECT_THROW((void)session.fork_beginning(30), Error);
}

TEST_F(SessionTest, EveryMethodKeepsItsBudgetOverTurns) {
  for (const Method& method : methods()) {
    if (method.name == "full") continue;
    SCOPED_TRACE(method.name);
    const SessionOptions options = options_of(method, 200);
    Session session(*model_, options);
    for (size_t turn = 0; turn < 6; ++turn) {
      std::set<int32_t> before;
      if (turn > 0) {
        const auto held = session.cache().positions(0, 0);
        before.insert(held.begin(), held.end());
      }
      const size_t first = session.tokens();
      session.append(tokens_of(40 + 90 * turn % 200, turn + 2));
      EXPECT_LE(rows(session.cache()), 200 * heads());
      // What is kept was held before or is new.
      for (const int32_t p : session.cache().positions(0, 0)) {
        EXPECT_TRUE(before.contains(p) || static_cast<size_t>(p) >= first) << p;
      }
    }
    EXPECT_GE(longest_head(session.cache()), 100U);
  }
}

TEST_F(SessionTest, EveryAllocationKeepsTheBudgetOverTurnsAndTokens) {
  for (const char* allocation : {"uniform", "pyramid", "ada", "global", "cake"}) {
    for (const bool critical : {false, true}) {
      const std::string_view name = allocation;
      if (critical && (name == "global" || name == "cake")) continue;  // refused
      SCOPED_TRACE(std::string(allocation) + (critical ? ", critical" : ""));
      SessionOptions options = session_options("snapkv", 96);
      options.compression.allocation = allocation;
      options.compression.critical = critical;
      options.interval = 20;
      Session session(*model_, options);
      for (size_t turn = 0; turn < 4; ++turn) {
        session.append(tokens_of(150, turn + 2));
        EXPECT_LE(rows(session.cache()), 96 * heads());
        for (int32_t t = 0; t < 70; ++t) {
          session.append(t % 256);
          EXPECT_LE(rows(session.cache()), (96 + 20) * heads());
        }
      }
    }
  }
}

// The promise of decode-time eviction, over a generation longer than the model's context.
TEST_F(SessionTest, LongGenerationsStayWithinBudgetAndInterval) {
  const OneThread quick;
  for (const Method& method : methods()) {
    // Compact positions and refits exclude each other.
    if (method.name == "full" || method.defaults.refit != Refit::kNone) continue;
    SessionOptions options = options_of(method, 64);
    options.interval = 16;
    options.compact_positions = true;
    options.compression.allocation = "uniform";
    options.kv_type = KvType::kF16;
    Session session(*model_, options);
    session.append(tokens_of(100));
    for (int i = 0; i < 5000; ++i) {
      const auto logits = session.append((i * 53 + 7) % 256);
      ASSERT_TRUE(std::isfinite(logits[0]));
      ASSERT_LE(longest_head(session.cache()), 80U) << method.name << " token " << i;
      ASSERT_LE(session.cache().next_position, 81U);
    }
    EXPECT_EQ(session.tokens(), 5100U);
  }
}

/// LaCache's repeated compaction, rung by rung: what each layer holds, and the cursor they share.
struct SlowLadder {
  size_t layers, budget, sinks, span;
  size_t cursor = sinks;
  bool cut_before = false;
  size_t rounds = 0;  ///< How often the cursor has started over.
  std::vector<std::vector<int32_t>> held = std::vector<std::vector<int32_t>>(layers);

  /// Keeps, of every `period` rows from `begin` on, one, `rungs` times.
  void thin(size_t begin, size_t period, size_t rungs) {
    for (size_t layer = 0; layer < layers; ++layer) {
      std::vector<int32_t> kept;
      for (size_t i = 0; i < held[layer].size(); ++i) {
        const bool inside = i >= begin && i < begin + period * rungs;
        if (!inside || (i - begin) % period == layer % period) kept.push_back(held[layer][i]);
      }
      held[layer] = kept;
    }
  }
  void cut() {
    const size_t period = 1 + (layers - 1) / span;  // ceil(layers / span)
    const size_t lost = period - 1;
    const size_t size = budget + (cut_before ? 0 : lost / 2);
    cut_before = true;
    const size_t length = held[0].size();
    const size_t need = length > size ? length - size : 0;
    const size_t rungs = (need + lost - 1) / lost;
    const size_t room = size - std::min(size, cursor + layers);
    if (need <= room * lost) {
      thin(cursor, period, rungs);
      cursor += rungs;
    } else {
      thin(cursor, period, room);
      const size_t rest = need - room * lost;
      const size_t most = (size - sinks - layers) * lost;
      const size_t times = (rest + most - 1) / most;
      const size_t wider = period + (times - 1) * (period - 1);
      const size_t again = (rest + wider - 2) / (wider - 1);
      thin(sinks, wider, again);
      cursor = sinks + again;
      ++rounds;
    }
    while (held[0].size() > budget) {
      for (auto& rows : held) rows.erase(rows.begin() + static_cast<ptrdiff_t>(sinks));
      cursor = std::max(sinks, cursor - 1);
    }
  }
};

TEST_F(SessionTest, LadderGoesOnWhereItStands) {
  const OneThread quick;
  testing::TinyModel description;
  description.layers = 8;
  description.context = 3000;
  description.write(folder_.file("ladder.gguf"));
  const Model model(folder_.file("ladder.gguf"));
  for (const int span : {2, 4}) {
    for (const size_t interval : {1, 16, 50}) {
      SCOPED_TRACE("span " + std::to_string(span) + ", interval " + std::to_string(interval));
      SessionOptions options = session_options("lacache", 60);
      options.compression.own["ladder_span"] = span;
      options.interval = interval;
      Session session(model, options);
      SlowLadder ladder{.layers = 8, .budget = 60, .sinks = 4, .span = static_cast<size_t>(span)};
      int32_t position = 0;
      const auto add = [&](size_t count) {
        for (size_t i = 0; i < count; ++i, ++position) {
          for (auto& rows : ladder.held) rows.push_back(position);
        }
      };
      const auto compare = [&] {
        for (size_t layer = 0; layer < 8; ++layer) {
          ASSERT_TRUE(std::ranges::equal(session.cache().positions(layer, 0), ladder.held[layer]))
              << "layer " << layer << " after " << position << " tokens";
        }
      };
      session.append(tokens_of(200));
      add(200);
      ladder.cut();
      compare();
      for (int i = 0; i < 600; ++i) {
        session.append(i % 256);
        add(1);
        if (ladder.held[0].size() >= 60 + interval) ladder.cut();
        compare();
      }
      EXPECT_GT(ladder.rounds, 2U);
      session.append(tokens_of(90));  // a turn
      add(90);
      ladder.cut();
      compare();
    }
  }
}

// What methods look at is gathered in one way from prompts and in another from single tokens.
TEST_F(SessionTest, TokensOneByOneAreObservedLikeAPrompt) {
  for (const char* method : {"h2o", "observed-attention", "expected-attention", "tova", "restkv"}) {
    for (const char* allocation : {"uniform", "ada"}) {
      if (std::string(method) == "tova" && std::string(allocation) == "ada") continue;
      SCOPED_TRACE(std::string(method) + ", " + allocation);
      SessionOptions options = session_options(method, 90);
      options.compression.allocation = allocation;
      Session prompt(*model_, options);
      prompt.append(tokens_of(150));  // cut: with ada, heads of different lengths
      Session single = prompt.fork();
      for (Session* session : {&prompt, &single}) session->set_budget(400);
      for (size_t turn = 0; turn < 2; ++turn) {
        const auto text = tokens_of(100, 3 + turn);
        prompt.append(text);
        for (const int32_t token : text) single.append(token);
        for (Session* session : {&prompt, &single}) {
          session->set_budget(90);
          session->compress();
          session->set_budget(400);
        }
        for (size_t layer = 0; layer < single.cache().layers(); ++layer) {
          for (size_t h = 0; h < single.cache().heads(layer).size(); ++h) {
            EXPECT_TRUE(std::ranges::equal(single.cache().positions(layer, h),
                                           prompt.cache().positions(layer, h)))
                << "turn " << turn << ", layer " << layer << ", head " << h;
          }
        }
      }
    }
  }
}

TEST_F(SessionTest, WhatIsReservedComesOnTop) {
  for (const char* method : {"keydiff", "snapkv", "full"}) {
    SessionOptions options = session_options(method, 64);
    options.interval = 8;
    options.decode_budget = 40;
    Session document(*model_, options);
    document.append(tokens_of(200));
    const bool cuts = options.compression.method != "full";
    const size_t held = cuts ? 64 : 200;
    const auto rows = [](const Session& session) { return session.cache().heads(0)[0].count; };
    ASSERT_EQ(rows(document), held);
    const auto positions = document.cache().positions(0, 0);
    const std::vector<int32_t> of_document(positions.begin(), positions.end());

    Session asked = document.fork();
    asked.reserve(30 + 50);
    asked.append(tokens_of(30, 2));
    for (const int32_t token : tokens_of(50, 3)) asked.append(token);
    ASSERT_EQ(rows(asked), held + 80);
    EXPECT_TRUE(std::ranges::equal(asked.cache().positions(0, 0).first(held), of_document));
    if (!cuts) continue;
    // The next token is one too many, and the budget of single tokens holds again.
    asked.append(1);
    EXPECT_EQ(rows(asked), 40U);

    Session cut = document.fork();
    cut.reserve(100);
    cut.append(tokens_of(30, 2));
    EXPECT_EQ(rows(cut), 64U + 30);
    cut.compress();
    EXPECT_EQ(rows(cut), 64U);
    cut.append(tokens_of(30, 2));
    EXPECT_EQ(rows(cut), 64U);
  }
}

// Only distances matter to rotary embeddings: where a contiguous stretch is kept, numbering it anew
// changes nothing.
TEST_F(SessionTest, CompactPositionsKeepDistances) {
  SessionOptions options = session_options("streaming-llm", 128);
  options.compression.sinks = 0;
  options.chunk = 200;
  Session plain(*model_, options);
  options.compact_positions = true;
  Session compact(*model_, options);
  for (size_t turn = 0; turn < 4; ++turn) {
    const auto text = tokens_of(300, turn + 1);
    const std::vector<float> expected = copy(plain.append(text));
    expect_near(compact.append(text), expected, 2e-4F);
    EXPECT_LE(compact.cache().next_position, 128U);
  }
}

TEST_F(SessionTest, CompactPositionsReadPastTheContext) {
  SessionOptions options = session_options("streaming-llm", 256);
  options.chunk = 512;
  Session plain(*model_, options);
  EXPECT_THROW(plain.append(tokens_of(5000)), Error);
  options.compact_positions = true;
  Session compact(*model_, options);
  const auto logits = compact.append(tokens_of(5000));
  EXPECT_TRUE(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
  EXPECT_EQ(longest_head(compact.cache()), 256U);
}

TEST_F(SessionTest, ForksGoOnByThemselves) {
  SessionOptions options = session_options("restkv", 100);
  options.interval = 10;
  Session session(*model_, options);
  session.append(tokens_of(300));
  const auto go_on = [](Session& s, size_t seed) {
    s.append(tokens_of(50, seed));
    for (int i = 0; i < 30; ++i) s.append(i);
    return copy(s.logits());
  };
  Session a = session.fork();
  Session b = session.fork();
  const auto first = go_on(a, 3);
  EXPECT_NE(go_on(b, 4), first);
  EXPECT_EQ(go_on(session, 3), first);
}

TEST_F(SessionTest, SessionsShareAModelAcrossThreads) {
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      Session session(*model_, session_options("restkv", 64));
      session.append(tokens_of(200, 1 + i % 2));
      for (int t = 0; t < 20; ++t) session.append(t);
      results[i] = copy(session.logits());
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(results[0], results[2]);
  EXPECT_EQ(results[1], results[3]);
  EXPECT_NE(results[0], results[1]);
}

TEST_F(SessionTest, RefusesWhatCannotWork) {
  SessionOptions options = session_options("h2o", 64);
  options.compression.own["acausal"] = true;
  EXPECT_THROW(Session(*model_, options), Error);
  options = session_options("snapkv", 64);
  options.compact_positions = true;
  options.compression.allocation = "ada";
  EXPECT_THROW(Session(*model_, options), Error);
  Session session(*model_, session_options("snapkv", 64));
  EXPECT_THROW(session.append(std::span<const int32_t>()), Error);
  const std::vector<int32_t> unknown = {1, 2, 999};
  EXPECT_THROW(session.append(unknown), Error);
}

}  // namespace
}  // namespace restkv
