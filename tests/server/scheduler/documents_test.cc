// Documents are read once; requests go on from copies of them.
#include <gtest/gtest.h>

#include "restkv/engine.h"
#include "server/scheduler/footprint.h"
#include "server/scheduler/scheduler_test.h"

namespace restkv::server::testing {
namespace {

class DocumentsTest : public SchedulerTest {
 protected:
  /// An answer after a document in the library alone, on top of what the document keeps.
  static std::vector<int32_t> after(const std::vector<int32_t>& document,
                                    const SessionOptions& options, const Request& asked) {
    Session session(Engine(model()), options);
    (void)session.append(document);
    session.reserve(asked.prompt.size() + asked.generation.max_tokens);
    if (!asked.prompt.empty()) (void)session.append(asked.prompt);
    return generate(
               [&](int32_t token) {
                 Session* const one[] = {&session};
                 Session::append_together(one, {&token, 1});
                 return session.logits();
               },
               session.logits(), tokenizer(), asked.generation)
        .tokens;
  }
};

TEST_F(DocumentsTest, AreReadOnceAndNeverChange) {
  Scheduler scheduler(model(), tokenizer(), {});
  const std::vector<int32_t> document = text(400, 1);
  SessionOptions options = session("restkv", 100);
  options.interval = 4;
  auto reading = std::make_shared<Recorder>();
  const DocumentId id = scheduler.add_document(document, options, reading);
  ASSERT_EQ(scheduler.documents().size(), 1U);
  // These wait for it.
  std::vector<Request> requests;
  std::vector<Sent> sent;
  for (size_t round = 0; round < 3; ++round) {
    for (size_t i = 0; i < 5; ++i) {
      Request asked = request(text(i == 0 ? 0 : 10 * i, i), 30);
      asked.document = id;
      asked.reuse = false;
      if (round == 1) asked.session = options;
      requests.push_back(asked);
      sent.push_back(send(scheduler, asked));
    }
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    sent[i].recorder->wait();
    const Heard& heard = sent[i].recorder->answer();
    ASSERT_TRUE(heard.result) << heard.error->what();
    EXPECT_EQ(heard.tokens, after(document, options, requests[i])) << i;
    EXPECT_EQ(heard.usage->cached_tokens, 400U);
    EXPECT_EQ(heard.usage->prompt_tokens, 400 + requests[i].prompt.size());
    // The last token of an answer is not appended.
    EXPECT_EQ(heard.usage->kept, 100 + requests[i].prompt.size() + heard.tokens.size() - 1);
    EXPECT_EQ(heard.usage->dropped, 300U);
  }
  reading->wait();
  EXPECT_TRUE(reading->answers().empty());
  const DocumentInfo info = *scheduler.document(id);
  EXPECT_EQ(info.state, DocumentInfo::State::kReady);
  EXPECT_EQ(info.tokens, 400U);
  EXPECT_EQ(info.kept, 100U);
  EXPECT_EQ(info.done, 1);
  EXPECT_EQ(info.kv_bytes, model().config().kv_bytes(100));
  EXPECT_EQ(info.full_kv_bytes, model().config().kv_bytes(400));

  EXPECT_TRUE(scheduler.remove_document(id));
  EXPECT_FALSE(scheduler.remove_document(id));
  EXPECT_FALSE(scheduler.document(id));
  EXPECT_THROW((void)scheduler.submit(requests[0]), Error);
  scheduler.shutdown(std::chrono::seconds(5));
  for (const SlotInfo& slot : scheduler.status().slots) {
    EXPECT_NE(slot.state, SlotInfo::State::kDocument);
  }
}

TEST_F(DocumentsTest, ConversationsAboutThemGoOn) {
  Scheduler scheduler(model(), tokenizer(), {});
  const std::vector<int32_t> document = text(300, 2);
  const DocumentId id = scheduler.add_document(document, session("snapkv", 80));
  Request asked = request(text(20, 4), 10);
  asked.document = id;
  const Sent first = send(scheduler, asked);
  first.recorder->wait();
  const std::vector<int32_t> answer = first.recorder->answer().tokens;
  asked.prompt.insert(asked.prompt.end(), answer.begin(), answer.end());
  const std::vector<int32_t> question = text(20, 8);
  asked.prompt.insert(asked.prompt.end(), question.begin(), question.end());
  const Sent second = send(scheduler, asked);
  second.recorder->wait();
  EXPECT_EQ(second.recorder->answer().usage->cached_tokens, 300U + 20 + 9);
  EXPECT_EQ(second.recorder->answer().usage->kept, 80U + 20 + 9 + 1 + 20 + 9);
}

TEST_F(DocumentsTest, KeepWhatTheyHoldBesideAnyQuestion) {
  Scheduler scheduler(model(), tokenizer(), {});
  SessionOptions options = session("snapkv", 80);
  options.interval = 4;
  options.decode_budget = 40;
  const DocumentId id = scheduler.add_document(text(300, 2), options);
  Request asked = request(text(200, 4), 60);
  asked.document = id;
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  EXPECT_EQ(sent.recorder->answer().usage->kept, 80U + 200 + 59);
  // The same tokens without the document are a prompt like any other: cut, and cut again.
  Request plain = request(text(300, 2), 60);
  plain.prompt.insert(plain.prompt.end(), asked.prompt.begin(), asked.prompt.end());
  plain.prompt.insert(plain.prompt.end(), sent.recorder->answer().tokens.begin(),
                      sent.recorder->answer().tokens.end());
  plain.session = options;
  const Sent later = send(scheduler, plain);
  later.recorder->wait();
  EXPECT_GT(later.recorder->answer().usage->cached_tokens, 300U + 200);
  EXPECT_LE(later.recorder->answer().usage->kept, 40U + 4);
}

TEST_F(DocumentsTest, WithCompactPositionsTheBudgetHoldsForAll) {
  Scheduler scheduler(model(), tokenizer(), {});
  SessionOptions options = session("snapkv", 80);
  options.compact_positions = true;
  options.interval = 4;
  const DocumentId id = scheduler.add_document(text(300, 2), options);
  Request asked = request(text(200, 4), 60);
  asked.document = id;
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  ASSERT_TRUE(sent.recorder->answer().result) << sent.recorder->answer().error->what();
  EXPECT_LE(sent.recorder->answer().usage->kept, 80U + 4);
}

TEST_F(DocumentsTest, QuestionsThatNeverFitBesideThemAreRefused) {
  SessionOptions options = session("snapkv", 80);
  options.interval = 4;
  Request asked = request(text(1000, 4), 500);
  const PlannedTokens planned{.before = 300, .prompt = 1000, .written = 500};
  SchedulerOptions small;
  // Enough if question and answer were cut.
  small.memory_limit = engine_footprint(model()) + footprint(model(), options, planned).total(1);
  Scheduler scheduler(model(), tokenizer(), small);
  asked.document = scheduler.add_document(text(300, 2), options);
  EXPECT_THROW((void)scheduler.submit(asked), Error);
  asked.prompt.resize(100);
  asked.generation.max_tokens = 10;
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  EXPECT_TRUE(sent.recorder->answer().result) << sent.recorder->answer().error->what();
}

TEST_F(DocumentsTest, OtherOptionsAreRefused) {
  Scheduler scheduler(model(), tokenizer(), {});
  Request asked = request(text(20, 4), 10);
  asked.document = scheduler.add_document(text(300, 2), session("snapkv", 80));
  asked.session = session("snapkv", 81);
  EXPECT_THROW((void)scheduler.submit(asked), Error);
  EXPECT_THROW((void)scheduler.add_document({}), Error);
  EXPECT_THROW((void)scheduler.add_document(text(5000, 1)), Error);
  EXPECT_EQ(scheduler.documents().size(), 1U);
}

TEST_F(DocumentsTest, ThatAreRemovedWhileTheyAreReadFail) {
  Scheduler scheduler(model(), tokenizer(), {});
  auto reading = std::make_shared<Recorder>();
  Sent waiting;
  DocumentId id;
  std::mutex all_sent;
  {
    const std::scoped_lock lock(all_sent);
    reading->on_started = [&] {
      const std::scoped_lock wait_for_it(all_sent);
      (void)scheduler.remove_document(id);
    };
    id = scheduler.add_document(text(3000, 2), {}, reading);
    Request asked = request(text(20, 4), 10);
    asked.document = id;
    waiting = send(scheduler, asked);
  }
  reading->wait();
  waiting.recorder->wait();
  EXPECT_TRUE(reading->answer().error);
  ASSERT_TRUE(waiting.recorder->answer().error);
  EXPECT_NE(std::string(waiting.recorder->answer().error->what()).find(id), std::string::npos);
  EXPECT_TRUE(scheduler.documents().empty());
}

}  // namespace
}  // namespace restkv::server::testing
