// Several sequences in one engine: decoded together, beside a prompt that pauses, from several
// threads.

#include <gtest/gtest.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/threads.h"
#include "engine/decode.h"
#include "engine/evict.h"
#include "engine/prefill.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/own_options.h"
#include "support/refusal.h"
#include "support/sanitizers.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

constexpr size_t kSteps = 90;

std::vector<int32_t> text(size_t tokens, size_t seed) {
  std::vector<int32_t> result(tokens);
  for (size_t i = 0; i < tokens; ++i) result[i] = static_cast<int32_t>((i * 97 + seed * 31) % 256);
  return result;
}

/// Sequences that have nothing in common but their model.
std::vector<SessionOptions> different_options() {
  std::vector<SessionOptions> all;
  for (const char* method : {"restkv", "h2o", "full", "expected-attention", "streaming-llm",
                             "lacache", "tova", "snapkv"}) {
    SessionOptions& options = all.emplace_back();
    options.compression = default_options(method);
    options.compression.budget = static_cast<int>(40 + 3 * all.size());
    testing::set_if_own(options.compression, "future", 16);
    options.interval = all.size() % 4;  // of "h2o" and "lacache": none
    options.kv_type = all.size() % 3 == 0 ? KvType::kQ8 : KvType::kF16;
    options.compact_positions = options.compression.method == "streaming-llm";
  }
  return all;
}

class SequencesTest : public ::testing::Test {
 protected:
  SequencesTest() {
    testing::TinyModel tiny;
    tiny.architecture = "gemma3";
    tiny.layers = 4;
    tiny.window = 30;
    tiny.window_pattern = 2;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  [[nodiscard]] std::vector<Session> read(const Engine& engine) const {
    std::vector<Session> sessions;
    for (const SessionOptions& options : different_options()) {
      Session& session = sessions.emplace_back(engine, options);
      (void)session.append(text(50 + 9 * sessions.size(), sessions.size()));
    }
    return sessions;
  }

  static int32_t likeliest(const Session& session) {
    const auto logits = session.logits();
    return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  }

  /// Each writes its own text; all together.
  static void write(std::span<Session* const> sessions, size_t steps) {
    std::vector<int32_t> tokens;
    for (size_t step = 0; step < steps; ++step) {
      tokens.clear();
      for (const Session* session : sessions) tokens.push_back(likeliest(*session));
      Session::append_together(sessions, tokens);
    }
  }

  static void expect_equal(const Session& a, const Session& b) {
    ASSERT_EQ(a.tokens(), b.tokens());
    EXPECT_TRUE(std::ranges::equal(a.logits(), b.logits())) << a.options().compression.method;
    for (size_t layer = 0; layer < a.cache().layers(); ++layer) {
      ASSERT_EQ(a.cache().heads(layer).size(), b.cache().heads(layer).size());
      for (size_t h = 0; h < a.cache().heads(layer).size(); ++h) {
        ASSERT_TRUE(
            std::ranges::equal(a.cache().positions(layer, h), b.cache().positions(layer, h)))
            << a.options().compression.method << ", layer " << layer << ", head " << h;
      }
    }
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(SequencesTest, GetTogetherWhatEachGetsAlone) {
  const Engine engine(*model_);
  std::vector<Session> together = read(engine);
  std::vector<Session> alone = read(engine);
  std::vector<Session*> all;
  for (Session& session : together) all.push_back(&session);
  write(all, kSteps);
  size_t cut = 0;
  for (size_t i = 0; i < alone.size(); ++i) {
    Session* const one[] = {&alone[i]};
    write(one, kSteps);
    expect_equal(alone[i], together[i]);
    const SessionOptions& options = alone[i].options();
    if (options.interval == 0 || options.compression.method == "full") continue;
    ++cut;
    EXPECT_LE(alone[i].cache().heads(1)[0].count,
              static_cast<size_t>(options.compression.budget) + options.interval);
  }
  EXPECT_GE(cut, 4U) << "some are cut while they are decoded";
}

TEST_F(SequencesTest, MayJoinAndLeaveAtAnyTime) {
  const Engine engine(*model_);
  std::vector<Session> sessions = read(engine);
  std::vector<Session> alone = read(engine);
  std::vector<size_t> steps(sessions.size());
  for (size_t step = 0; step < 40; ++step) {
    std::vector<Session*> now;
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (i > 0 && (step + i) % (i + 2) == 0) continue;
      now.push_back(&sessions[i]);
      ++steps[i];
    }
    write(now, 1);
  }
  for (size_t i = 0; i < sessions.size(); ++i) {
    Session* const one[] = {&alone[i]};
    write(one, steps[i]);
    expect_equal(alone[i], sessions[i]);
  }
}

TEST_F(SequencesTest, ThatCannotBeDecodedTogetherAreRefusedBeforeAnythingIsRead) {
  const Engine engine(*model_);
  const Engine other(*model_);
  std::vector<Session> sessions = read(engine);
  Session stranger(other, {});
  (void)stranger.append(text(20, 1));
  const size_t tokens = sessions[0].tokens();
  const auto refused = [&](const std::vector<Session*>& some, const std::vector<int32_t>& ids) {
    EXPECT_THROW(Session::append_together(some, ids), Error);
    EXPECT_EQ(sessions[0].tokens(), tokens);
    EXPECT_EQ(sessions[0].cache().next_position, tokens);
  };
  refused({}, {});
  refused({&sessions[0]}, {1, 2});
  refused({&sessions[0], &sessions[0]}, {1, 2});
  refused({&sessions[0], &stranger}, {1, 2});
  refused({&sessions[0], &sessions[1]}, {1, 1 << 30});
  std::vector<Session> many;
  std::vector<Session*> too_many{&sessions[0]};
  for (size_t i = 0; i < Engine::kMaxBatch; ++i) many.push_back(sessions[1].fork());
  for (Session& session : many) too_many.push_back(&session);
  refused(too_many, std::vector<int32_t>(too_many.size(), 1));
}

TEST_F(SequencesTest, AreDecodedAndCutWhileAPromptPauses) {
  Workspace workspace(*model_);
  const auto begin = [&](const SessionOptions& options) {
    Sequence sequence;
    sequence.options = options;
    begin_sequence(*model_, sequence);
    return sequence;
  };
  const std::vector<SessionOptions> options = different_options();
  const std::vector<int32_t> long_prompt = text(200, 5);
  const std::vector<int32_t> short_prompt = text(60, 2);
  SparsePrefill sparse(model_->config());
  sparse.set({});
  const auto prompt = [&](Sequence& sequence, const std::vector<int32_t>& tokens,
                          const std::function<void()>& between) {
    SequenceSink sink(*model_, workspace, sequence, tokens.size());
    Prefill prefill(*model_, workspace, tokens, sink, sparse);
    double done = 0;
    while (prefill.step()) {
      EXPECT_GT(prefill.done(), done);
      done = prefill.done();
      between();
    }
    EXPECT_EQ(prefill.done(), 1);
    prefill.last_logits(sequence.logits);
  };

  Sequence expected = begin(options[0]);
  prompt(expected, long_prompt, [] {});
  Sequence writing = begin(options[2 + 1]);  // is cut now and then
  writing.options.interval = 1;
  prompt(writing, short_prompt, [] {});
  Sequence writing_alone = writing;

  Sequence paused = begin(options[0]);
  size_t steps = 0;
  prompt(paused, long_prompt, [&] {
    // Another prompt in the same workspace, too.
    Sequence other = begin(options[1]);
    prompt(other, short_prompt, [] {});
    Sequence* const both[] = {&writing, &other};
    decode(*model_, workspace, std::vector<int32_t>{7, 8}, both);
    ++steps;
  });
  EXPECT_GE(steps, 3U);
  EXPECT_EQ(paused.logits, expected.logits);
  for (size_t i = 0; i < steps; ++i) {
    Sequence* const one[] = {&writing_alone};
    decode(*model_, workspace, std::vector<int32_t>{7}, one);
  }
  EXPECT_EQ(writing.logits, writing_alone.logits);
  EXPECT_EQ(writing.cached_tokens, static_cast<size_t>(writing.options.compression.budget));
}

TEST_F(SequencesTest, MayBeReadInStepsWhileOthersAreReadAndDecoded) {
  const Engine engine(*model_);
  for (const size_t chunk : {size_t{0}, size_t{64}, size_t{199}}) {
    std::vector<SessionOptions> options = {different_options()[0], different_options()[1]};
    for (SessionOptions& each : options) each.chunk = chunk;
    const std::vector<std::vector<int32_t>> prompts = {text(200, 5), text(131, 2)};
    std::vector<Session> expected;
    std::vector<Session> stepped;
    for (size_t i = 0; i < 2; ++i) {
      (void)expected.emplace_back(engine, options[i]).append(prompts[i]);
      stepped.emplace_back(engine, options[i]);
    }
    Session writing(engine, different_options()[3]);
    (void)writing.append(text(60, 1));
    Session writing_alone = writing.fork();

    std::vector<Session::Prompt> under_way;
    for (size_t i = 0; i < 2; ++i) under_way.push_back(stepped[i].begin(prompts[i]));
    std::vector<double> done(2, 0);
    size_t steps = 0;
    for (std::vector<bool> more(2, true); more[0] || more[1]; ++steps) {
      for (size_t i = 0; i < 2; ++i) {
        if (!more[i]) continue;
        // One of them in parts, the other one now and then.
        const bool part = i == 0 || steps % 3 == 0;
        more[i] = under_way[i].step(part ? Stride::kPart : Stride::kBlock);
        EXPECT_GE(under_way[i].done(), done[i]);
        done[i] = under_way[i].done();
        EXPECT_EQ(stepped[i].tokens() == prompts[i].size(), !more[i]);
      }
      Session* const one[] = {&writing};
      write(one, 1);
    }
    EXPECT_GE(steps, model_->config().layers);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(done[i], 1);
      EXPECT_FALSE(under_way[i].step()) << "there is nothing left";
      expect_equal(expected[i], stepped[i]);
    }
    Session* const one[] = {&writing_alone};
    write(one, steps);
    expect_equal(writing_alone, writing);
  }
}

TEST_F(SequencesTest, GoOnAfterAPromptThatWasGivenUp) {
  const Engine engine(*model_);
  std::optional<Session> given_up(std::in_place, engine, different_options()[0]);
  {
    Session::Prompt prompt = given_up->begin(text(200, 5));
    EXPECT_TRUE(prompt.step());
  }
  given_up.reset();
  Session session(engine, different_options()[0]);
  EXPECT_THROW((void)session.begin({}), Error);
  EXPECT_THROW((void)session.begin(text(5000, 1)), Error);
  EXPECT_EQ(session.tokens(), 0U);
  Session::Prompt prompt = session.begin(text(200, 5));
  while (prompt.step()) {
  }
  Session expected(Engine(*model_), different_options()[0]);
  (void)expected.append(text(200, 5));
  expect_equal(expected, session);
  // A single token is decoded, as by `append`.
  Session::Prompt one = session.begin(text(1, 3));
  EXPECT_FALSE(one.step());
  EXPECT_EQ(one.done(), 1);
  (void)expected.append(text(1, 3));
  expect_equal(expected, session);
}

TEST_F(SequencesTest, AreRefusedWhileAPromptIsIncomplete) {
  Engine engine(*model_);
  Session session(engine, different_options()[0]);
  (void)session.append(text(30, 1));
  Session expected = session.fork();
  const std::string file = folder_.file("incomplete");
  const std::vector<std::function<void()>> uses{[&] { (void)session.begin(text(9, 1)); },
                                                [&] { (void)session.append(1); },
                                                [&] { (void)session.append(text(9, 1)); },
                                                [&] {
                                                  Session* const one[] = {&session};
                                                  Session::append_together(one,
                                                                           std::vector<int32_t>{1});
                                                },
                                                [&] { session.compress(); },
                                                [&] { session.set_budget(50); },
                                                [&] { session.set_sparse({}); },
                                                [&] { (void)session.fork(); },
                                                [&] { session.save(file); }};
  const auto expect_refused = [&] {
    for (size_t use = 0; use < uses.size(); ++use) EXPECT_THROW(uses[use](), Error) << use;
    EXPECT_THROW((void)Session::load(engine, file), Error) << "nothing is there";
  };
  Session::Prompt prompt = session.begin(text(200, 5));
  Session::Prompt second = session.begin(text(200, 6));
  EXPECT_TRUE(prompt.step());
  expect_refused();
  EXPECT_THROW((void)second.step(), Error);
  while (prompt.step()) {
  }
  (void)expected.append(text(200, 5));
  expect_equal(expected, session);
  (void)session.append(1);
  {
    Session::Prompt given_up = session.begin(text(200, 5));
    EXPECT_TRUE(given_up.step());
  }
  expect_refused();
}

TEST_F(SequencesTest, UnknownTokensAreRefusedBeforeAnythingIsRead) {
  SessionOptions options = different_options()[0];
  options.chunk = 100;
  Session session(Engine(*model_), options);
  for (const int32_t unknown : {-1, 1 << 30}) {
    std::vector<int32_t> tokens = text(250, 1);
    tokens.back() = unknown;
    EXPECT_THROW((void)session.begin(tokens), Error);
    EXPECT_THROW((void)session.append(tokens), Error);
    EXPECT_EQ(session.tokens(), 0U);
  }
  EXPECT_NO_THROW((void)session.append(text(250, 1)));
}

TEST_F(SequencesTest, HandOutTheLogitsOfAPrompt) {
  const auto collect = [&](Session& session, std::span<const int32_t> tokens) {
    std::vector<float> all;
    Session::Prompt prompt = session.begin(tokens, [&](size_t first, Matrix<const float> logits) {
      EXPECT_EQ(first * logits.cols, all.size());
      EXPECT_LE(logits.rows, Session::kLogitsRows);
      for (size_t row = 0; row < logits.rows; ++row) {
        const std::span<const float> one = logits.row_span(row);
        all.insert(all.end(), one.begin(), one.end());
      }
    });
    size_t steps = 1;
    double before = 0;
    for (; prompt.step(); ++steps) {
      EXPECT_GT(prompt.done(), before);
      EXPECT_LT(prompt.done(), 1);
      before = prompt.done();
    }
    EXPECT_EQ(prompt.done(), 1);
    const size_t blocks = (tokens.size() + Session::kLogitsRows - 1) / Session::kLogitsRows;
    EXPECT_TRUE(tokens.size() == 1 || steps >= blocks + model_->config().layers);
    return all;
  };
  const auto expect_near = [](std::span<const float> expected, std::span<const float> actual) {
    ASSERT_EQ(expected.size(), actual.size());
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(expected[i], actual[i], 1e-4) << i;
  };
  const std::vector<int32_t> tokens = text(900, 3);
  Engine engine(*model_);
  std::vector<float> scored;
  engine.score(tokens, [&](size_t, Matrix<const float> logits) {
    scored.insert(scored.end(), logits.data, logits.data + logits.rows * logits.cols);
  });
  SessionOptions options;
  options.compression.budget = 40;
  Session session(engine, options);
  expect_near(scored, collect(session, tokens));
  EXPECT_EQ(session.cache().heads(1)[0].count, 40U);
  expect_near(std::span(scored).last(session.logits().size()), session.logits());
  // What follows is judged by what is left; a single token is decoded.
  Session fork = session.fork();
  const std::vector<int32_t> more = text(130, 4);
  const std::vector<float> after = collect(session, more);
  (void)fork.append(more);
  expect_near(std::span(after).last(fork.logits().size()), fork.logits());
  const std::vector<float> one = collect(session, text(1, 1));
  expect_near(one, session.logits());
  // The first token of all is read once.
  Session fresh(engine, options);
  const std::vector<float> first = collect(fresh, text(1, 1));
  EXPECT_EQ(fresh.tokens(), 1U);
  expect_near(first, fresh.logits());
  // In chunks the first one is judged alike, the others by less.
  options.chunk = 300;
  Session in_chunks(engine, options);
  const std::vector<float> chunks = collect(in_chunks, tokens);
  ASSERT_EQ(chunks.size(), scored.size());
  const size_t of_chunk = 300 * model_->config().vocabulary;
  expect_near(std::span(scored).first(of_chunk), std::span(chunks).first(of_chunk));
}

TEST_F(SequencesTest, FailAlone) {
  testing::TinyModel broken;
  broken.layers = 2;
  // Whoever reads token 7 computes no numbers.
  broken.edit_tensor = [](testing::TinyTensor& tensor) {
    if (tensor.name == "token_embd.weight") {
      std::fill_n(tensor.values.begin() + static_cast<ptrdiff_t>(7 * tensor.cols), tensor.cols,
                  std::numeric_limits<float>::quiet_NaN());
    }
    return true;
  };
  broken.write(folder_.file("broken.gguf"));
  const Model model(folder_.file("broken.gguf"));
  const Engine engine(model);
  std::vector<Session> sessions;
  std::vector<Session*> all;
  for (const SessionOptions& options : different_options()) {
    (void)sessions.emplace_back(engine, options).append(std::vector<int32_t>(60, 9));
  }
  for (Session& session : sessions) all.push_back(&session);
  std::vector<Session> alone;
  for (const Session& session : sessions) alone.push_back(session.fork());
  std::vector<int32_t> tokens(all.size(), 30);
  tokens[2] = 7;
  EXPECT_THROW(
      Session::append_together(std::span(all).subspan(2, 1), std::span(tokens).subspan(2, 1)),
      Error);
  sessions[2] = alone[2].fork();
  std::vector<std::exception_ptr> failures(all.size());
  Session::append_together(all, tokens, failures);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(failures[i] != nullptr, i == 2);
    if (i == 2) continue;
    Session* const one[] = {&alone[i]};
    Session::append_together(one, {&tokens[i], 1});
    expect_equal(alone[i], sessions[i]);
  }
  EXPECT_THROW(Session::append_together(all, tokens, std::span(failures).first(2)), Error);
  // A failure of an earlier call would hide that of this one.
  EXPECT_NE(testing::refusal(ErrorCode::kInvalidArgument,
                             [&] { Session::append_together(all, tokens, failures); })
                .find("session 2 holds one already"),
            std::string::npos);
  for (size_t i = 0; i < all.size(); ++i) {
    if (i != 2) expect_equal(alone[i], sessions[i]);
  }
}

TEST_F(SequencesTest, OfOneEngineMayBeUsedFromSeveralThreads) {
  const Engine engine(*model_, std::make_shared<ThreadPool>(2));
  std::vector<Session> sessions = read(engine);
  std::vector<Session> expected = read(engine);
  std::vector<std::thread> threads;
  for (Session& session : sessions) {
    threads.emplace_back([&session] {
      for (size_t i = 0; i < 20; ++i) (void)session.append(likeliest(session));
      (void)session.append(text(30, 3));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < sessions.size(); ++i) {
    for (size_t step = 0; step < 20; ++step) (void)expected[i].append(likeliest(expected[i]));
    (void)expected[i].append(text(30, 3));
    expect_equal(expected[i], sessions[i]);
  }
}

TEST_F(SequencesTest, OutliveTheirEngine) {
  std::optional<Session> session;
  {
    const Engine engine(*model_);
    session.emplace(engine, SessionOptions());
  }
  EXPECT_FALSE(session->append(text(20, 1)).empty());
}

#ifdef __GLIBC__
TEST_F(SequencesTest, ThatAreIdleCostTheirCachesOnly) {
  if (testing::sanitized()) GTEST_SKIP() << "a sanitizer takes memory, too";
  const auto allocated = [] {
    const auto now = mallinfo2();
    return now.uordblks + now.hblkhd;
  };
  const Engine engine(*model_);
  SessionOptions options;
  options.compression.budget = 128;
  Session warm_up(engine, options);
  (void)warm_up.append(text(300, 1));
  (void)warm_up.append(7);

  const size_t before = allocated();
  std::vector<Session> idle;
  size_t caches = 0;
  size_t own = 0;
  for (size_t i = 0; i < 10; ++i) {
    Session& session = idle.emplace_back(engine, options);
    (void)session.append(text(300, i));
    caches += session.cache().allocated_bytes();
    own += session.allocated_bytes();
  }
  EXPECT_LE(own, allocated() - before);
  EXPECT_GE(own + 10 * 16384, allocated() - before);
  // Besides its cache, each knows its last queries, its logits and positions.
  const ModelConfig& c = model_->config();
  const size_t last_queries =
      c.layers * c.query_heads * c.key_dim * sizeof(float) * observed_queries(options.compression);
  const size_t others = 10 * (2 * last_queries + c.vocabulary * sizeof(float) + 16384);
  EXPECT_LE(allocated() - before, caches + others);
  // As a measure: an engine of its own works in more than that.
  const size_t with_one = allocated();
  Session other(*model_, options);
  (void)other.append(text(300, 1));
  EXPECT_GT(allocated() - with_one, (caches + others) / 10 + 65536);
}
#endif

}  // namespace
}  // namespace restkv
