// What sequences still know of the tokens that they have read.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "restkv/engine.h"
#include "server/scheduler/scheduler_test.h"

namespace restkv::server::testing {
namespace {

class KeptTest : public SchedulerTest {
 protected:
  template <class... Who>
  static std::optional<KeptTokens> kept(Scheduler& scheduler, const Who&... who) {
    auto heard = std::make_shared<std::promise<std::optional<KeptTokens>>>();
    std::future<std::optional<KeptTokens>> future = heard->get_future();
    scheduler.kept(who..., [heard](std::optional<KeptTokens> tokens) {
      heard->set_value(std::move(tokens));  // throws the second time
    });
    if (future.wait_for(std::chrono::minutes(1)) != std::future_status::ready) {
      ADD_FAILURE() << "nobody answers";
      return std::nullopt;
    }
    return future.get();
  }

  /// That a session knows exactly this.
  static void expect_same(const Session& session, const std::vector<int32_t>& tokens,
                          const std::optional<KeptTokens>& kept) {
    ASSERT_TRUE(kept);
    EXPECT_EQ(kept->tokens, tokens);
    ASSERT_EQ(kept->kept.size(), tokens.size());
    const KvCache& cache = session.cache();
    EXPECT_EQ(kept->layers, model().config().global_layers());
    EXPECT_EQ(kept->heads, cache.heads(0).size());
    std::vector<uint32_t> expected(tokens.size());
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      for (size_t head = 0; head < cache.heads(layer).size(); ++head) {
        for (const int32_t position : cache.positions(layer, head)) ++expected.at(position);
      }
    }
    EXPECT_EQ(kept->kept, expected);
  }
};

TEST_F(KeptTest, DocumentsTellWhatTheyHold) {
  Scheduler scheduler(model(), tokenizer(), {});
  const std::vector<int32_t> document = text(400, 1);
  SessionOptions per_query_head = session("snapkv", 90);
  per_query_head.compression.per_query_head = true;
  SessionOptions uneven = session("snapkv", 90);
  uneven.compression.allocation = "ada";
  for (const SessionOptions& options :
       {SessionOptions(), session("restkv", 100), uneven, per_query_head}) {
    auto reading = std::make_shared<Recorder>();
    const DocumentId id = scheduler.add_document(document, options, reading);
    reading->wait();
    Session session(Engine(model()), options);
    (void)session.append(document);
    const std::optional<KeptTokens> heard = kept(scheduler, id);
    expect_same(session, document, heard);
    EXPECT_EQ(heard->heads, options.compression.per_query_head ? model().config().query_heads
                                                               : model().config().kv_heads);
    scheduler.remove_document(id);
    EXPECT_FALSE(kept(scheduler, id));
  }
  EXPECT_FALSE(kept(scheduler, DocumentId("doc-99")));
  EXPECT_FALSE(kept(scheduler, DocumentId()));
}

TEST_F(KeptTest, AnswersTellWhileTheyAreWrittenAndAfterThem) {
  SchedulerOptions options;
  options.max_kept = 2;
  Scheduler scheduler(model(), tokenizer(), options);
  Request asked = request(text(120, 1), 40);
  asked.session = session("snapkv", 60);
  asked.n = 2;
  asked.generation.sampling.temperature = 1;  // equal ones would be one sequence
  asked.generation.sampling.seed = 5;
  std::optional<KeptTokens> within;
  std::atomic<size_t> calls = 0;
  RequestId id = 0;
  std::mutex known;
  auto recorder = std::make_shared<Recorder>();
  recorder->on_wrote = [&](const Piece& piece) {
    const std::scoped_lock lock(known);
    if (piece.answer != 1 || calls++ > 0) return;
    scheduler.kept(id, 1, [&](std::optional<KeptTokens> tokens) { within = std::move(tokens); });
  };
  asked.listener = recorder;
  {
    const std::scoped_lock lock(known);
    id = scheduler.submit(asked);
  }
  recorder->wait();
  ASSERT_TRUE(within);
  EXPECT_GE(within->tokens.size(), 120U);
  EXPECT_LT(within->tokens.size(), 120U + 39);

  Session session(Engine(model()), *asked.session);
  (void)session.append(asked.prompt);
  std::vector<int32_t> tokens = asked.prompt;
  for (const int32_t token : recorder->answer(0).tokens) {
    if (tokens.size() == 120 + 39) break;  // the last one is not appended
    Session* const one[] = {&session};
    Session::append_together(one, {&token, 1});
    tokens.push_back(token);
  }
  expect_same(session, tokens, kept(scheduler, id, size_t{0}));
  EXPECT_FALSE(kept(scheduler, id, size_t{2}));
  EXPECT_FALSE(kept(scheduler, id + 1, size_t{0}));

  // Another request goes on with one of them; then there is no room for both of the first.
  Request more = request(tokens, 1);
  more.session = asked.session;
  const std::vector<int32_t> question = text(10, 7);
  more.prompt.insert(more.prompt.end(), question.begin(), question.end());
  const Sent second = send(scheduler, more);
  second.recorder->wait();
  EXPECT_EQ(second.recorder->answer().usage->cached_tokens, tokens.size());
  const std::optional<KeptTokens> after = kept(scheduler, second.id, size_t{0});
  ASSERT_TRUE(after);
  EXPECT_EQ(after->tokens, more.prompt);
  size_t found = 0;
  for (size_t i = 0; i < 2; ++i) found += kept(scheduler, id, i) ? 1 : 0;
  EXPECT_EQ(found, 1U);
}

TEST_F(KeptTest, CompactPositionsForgetWithTheFirstCut) {
  Scheduler scheduler(model(), tokenizer(), {});
  SessionOptions options = session("streaming-llm", 60);
  options.compact_positions = true;
  for (const size_t length : {50, 100}) {
    Request asked = request(text(length, 1), 1);
    asked.session = options;
    const Sent sent = send(scheduler, asked);
    sent.recorder->wait();
    const std::optional<KeptTokens> heard = kept(scheduler, sent.id, size_t{0});
    EXPECT_EQ(heard.has_value(), length < 60);
    if (!heard) continue;
    const size_t pairs = heard->layers * heard->heads;
    EXPECT_EQ(heard->kept, std::vector<uint32_t>(length, static_cast<uint32_t>(pairs)));
  }
}

TEST_F(KeptTest, WindowsDoNotCount) {
  restkv::testing::TemporaryFolder folder;
  restkv::testing::TinyModel tiny;
  tiny.architecture = "gemma3";
  tiny.layers = 5;
  tiny.window = 30;
  tiny.window_pattern = 2;
  tiny.vocabulary = 512;
  tiny.write(folder.file("tiny.gguf"));
  const Model windowed(folder.file("tiny.gguf"));
  Scheduler scheduler(windowed, tokenizer(), {});
  auto reading = std::make_shared<Recorder>();
  const DocumentId id = scheduler.add_document(text(100, 1), {}, reading);
  reading->wait();
  const std::optional<KeptTokens> heard = kept(scheduler, id);
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->layers, 2U);
  EXPECT_EQ(heard->heads, windowed.config().kv_heads);
  const auto pairs = static_cast<uint32_t>(heard->layers * heard->heads);
  EXPECT_EQ(heard->kept, std::vector<uint32_t>(100, pairs));
}

TEST_F(KeptTest, EveryQuestionIsAnsweredOnceEvenAtTheEnd) {
  for (size_t round = 0; round < 5; ++round) {
    auto scheduler = std::make_unique<Scheduler>(model(), tokenizer(), SchedulerOptions());
    const DocumentId id = scheduler->add_document(text(100, 1));
    std::atomic<size_t> asked = 0;
    std::atomic<size_t> answered = 0;
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 20'000 && !stop; ++i) {
          ++asked;
          const auto hears = [&](const std::optional<KeptTokens>&) {
            ++answered;
            throw 1;  // and nobody cares
          };
          if (t == 0) {
            scheduler->kept(id, hears);
          } else {
            scheduler->kept(RequestId{1}, 0, hears);
          }
        }
      });
    }
    const Sent sent = send(*scheduler, request(text(50, 2), 30));
    sent.recorder->wait();
    EXPECT_TRUE(sent.recorder->answer().result);
    while (asked == 0) std::this_thread::yield();  // threads of a busy machine begin late
    scheduler->shutdown(std::chrono::milliseconds(0));
    stop = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(kept(*scheduler, id));
    EXPECT_EQ(asked, answered);
    EXPECT_GT(asked, 0U);
  }
}

}  // namespace
}  // namespace restkv::server::testing
