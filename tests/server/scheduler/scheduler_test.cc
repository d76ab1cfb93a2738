#include "server/scheduler/scheduler_test.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "restkv/engine.h"

namespace restkv::server::testing {

void Recorder::started(const Usage& usage) {
  if (on_started) on_started();
  const std::scoped_lock lock(mutex_);
  EXPECT_FALSE(start_.has_value());
  start_ = usage;
}

void Recorder::prompt_progress(double done) {
  const std::scoped_lock lock(mutex_);
  EXPECT_TRUE(start_.has_value());
  EXPECT_GE(done, progress_.empty() ? 0 : progress_.back());
  progress_.push_back(done);
}

void Recorder::prompt_scored(std::span<const TokenLogprob> logprobs) {
  const std::scoped_lock lock(mutex_);
  EXPECT_FALSE(scored_.has_value());
  EXPECT_FALSE(progress_.empty() || progress_.back() < 1) << "the prompt is not complete";
  EXPECT_TRUE(answers_.empty() && !closed_);
  scored_.emplace(logprobs.begin(), logprobs.end());
}

void Recorder::wrote(const Piece& piece) {
  if (on_wrote) on_wrote(piece);
  const std::scoped_lock lock(mutex_);
  EXPECT_TRUE(start_.has_value());
  Heard& heard = answers_[piece.answer];
  EXPECT_FALSE(heard.result || heard.error || closed_);
  heard.text += piece.text;
  heard.tokens.insert(heard.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  heard.logprobs.insert(heard.logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
  changed_.notify_all();
}

void Recorder::finished(size_t answer, const GenerationResult& result, const Usage& usage) {
  const std::scoped_lock lock(mutex_);
  Heard& heard = answers_[answer];
  EXPECT_FALSE(heard.result || heard.error || closed_);
  EXPECT_EQ(heard.text, result.text);
  EXPECT_EQ(heard.tokens, result.tokens);
  EXPECT_EQ(heard.logprobs.size(), result.logprobs.size());
  EXPECT_EQ(usage.completion_tokens, result.tokens.size());
  heard.result = result;
  heard.usage = usage;
}

void Recorder::failed(size_t answer, const Error& error) {
  const std::scoped_lock lock(mutex_);
  Heard& heard = answers_[answer];
  EXPECT_FALSE(heard.result || heard.error || closed_);
  heard.error = error;
}

void Recorder::closed() {
  if (on_closed) on_closed();
  const std::scoped_lock lock(mutex_);
  EXPECT_FALSE(closed_);
  closed_ = true;
  changed_.notify_all();
}

void Recorder::wait() {
  std::unique_lock lock(mutex_);
  ASSERT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return closed_; }))
      << "the request is not over";
}

void Recorder::wait_for_text() {
  std::unique_lock lock(mutex_);
  ASSERT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] {
    return closed_ || std::ranges::any_of(
                          answers_, [](const auto& each) { return !each.second.tokens.empty(); });
  })) << "nothing is written";
}

bool Recorder::is_closed() {
  const std::scoped_lock lock(mutex_);
  return closed_;
}

std::unique_ptr<restkv::testing::TemporaryFolder> SchedulerTest::folder_;
std::unique_ptr<Model> SchedulerTest::model_;
std::unique_ptr<Tokenizer> SchedulerTest::tokenizer_;

void SchedulerTest::SetUpTestSuite() {
  folder_ = std::make_unique<restkv::testing::TemporaryFolder>();
  restkv::testing::TinyModel tiny;
  tiny.layers = 3;
  tiny.vocabulary = 512;
  tiny.tokenizer = restkv::testing::test_model_path();
  tiny.write(folder_->file("tiny.gguf"));
  model_ = std::make_unique<Model>(folder_->file("tiny.gguf"));
  tokenizer_ = std::make_unique<Tokenizer>(folder_->file("tiny.gguf"));
}

void SchedulerTest::TearDownTestSuite() {
  tokenizer_.reset();
  model_.reset();
  folder_.reset();
}

std::vector<int32_t> SchedulerTest::text(size_t tokens, size_t seed) {
  std::vector<int32_t> result(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    result[i] = static_cast<int32_t>(20 + (i * 97 + seed * 31 + i * i * seed) % 480);
  }
  return result;
}

SessionOptions SchedulerTest::session(const std::string& method, int budget) {
  SessionOptions options;
  options.compression = default_options(method);
  options.compression.budget = budget;
  return options;
}

Request SchedulerTest::request(std::vector<int32_t> prompt, size_t max_tokens) {
  Request result;
  result.prompt = std::move(prompt);
  result.generation.max_tokens = max_tokens;
  for (const int32_t token : tokenizer().end_tokens()) {
    result.generation.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
  }
  return result;
}

SchedulerTest::Sent SchedulerTest::send(Scheduler& scheduler, Request request) {
  auto recorder = std::make_shared<Recorder>();
  request.listener = recorder;
  const RequestId id = scheduler.submit(std::move(request));
  return {id, recorder};
}

GenerationResult SchedulerTest::expected(const Request& request, const SessionOptions& options) {
  Session session(Engine(model()), options);
  (void)session.append(request.prompt);
  GenerationOptions generation = request.generation;
  std::unique_ptr<TokenConstraint> constraint;
  if (request.constraint) constraint = request.constraint();
  generation.constraint = constraint.get();
  return generate(
      [&](int32_t token) {
        Session* const one[] = {&session};
        Session::append_together(one, {&token, 1});
        return session.logits();
      },
      session.logits(), tokenizer(), generation);
}

namespace {

TEST_F(SchedulerTest, AnswersARequest) {
  Scheduler scheduler(model(), tokenizer(), {});
  Request asked = request(text(50, 1), 20);
  asked.session = session("snapkv", 40);
  asked.generation.logprobs = 2;
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  const Heard& heard = sent.recorder->answer();
  ASSERT_TRUE(heard.result) << heard.error->what();
  EXPECT_EQ(heard.result->tokens, expected(asked, *asked.session).tokens);
  EXPECT_EQ(heard.result->finish_reason, FinishReason::kLength);
  EXPECT_EQ(heard.logprobs.size(), 20U);
  EXPECT_EQ(heard.usage->prompt_tokens, 50U);
  EXPECT_EQ(heard.usage->cached_tokens, 0U);
  EXPECT_EQ(heard.usage->completion_tokens, 20U);
  EXPECT_EQ(heard.usage->kept, 40U + 19);  // the last token was not appended
  EXPECT_EQ(heard.usage->dropped, 10U);
  EXPECT_EQ(heard.usage->full_kv_bytes, model().config().kv_bytes(69));
  EXPECT_EQ(heard.usage->kv_bytes, model().config().kv_bytes(59));
  EXPECT_EQ(sent.recorder->start()->prompt_tokens, 50U);
  EXPECT_EQ(sent.recorder->progress().back(), 1);
  scheduler.shutdown(std::chrono::seconds(1));
  const SchedulerStatus status = scheduler.status();
  EXPECT_EQ(status.completed, 1U);
  EXPECT_EQ(status.tokens_read, 50U);
  EXPECT_EQ(status.tokens_generated, 20U);
  EXPECT_EQ(status.decode_rows, 19U);
  ASSERT_EQ(status.slots.size(), 1U);
  EXPECT_EQ(status.slots[0].state, SlotInfo::State::kKept);
  EXPECT_EQ(status.slots[0].tokens, 69U);
  EXPECT_EQ(status.slots[0].kept, std::vector<size_t>(3, 59));
}

TEST_F(SchedulerTest, SeveralAnswersReadThePromptOnce) {
  Scheduler scheduler(model(), tokenizer(), {});
  Request asked = request(text(60, 3), 30);
  asked.session = session("restkv", 48);
  asked.generation.sampling.temperature = 1;
  asked.generation.sampling.seed = 5;
  asked.n = 4;
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  ASSERT_EQ(sent.recorder->answers().size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    Request one = asked;
    one.generation.sampling.seed += static_cast<uint32_t>(i);
    EXPECT_EQ(sent.recorder->answer(i).result->tokens, expected(one, *asked.session).tokens) << i;
  }
  EXPECT_NE(sent.recorder->answer(0).text, sent.recorder->answer(1).text);
  scheduler.shutdown(std::chrono::seconds(1));
  EXPECT_EQ(scheduler.status().tokens_read, 60U);
}

TEST_F(SchedulerTest, AnswersEndWithTheContext) {
  Scheduler scheduler(model(), tokenizer(), {});
  const size_t context = model().config().context_length;
  const Sent sent = send(scheduler, request(text(context - 5, 1), 100));
  const Sent last = send(scheduler, request(text(context, 2), 100));
  sent.recorder->wait();
  last.recorder->wait();
  ASSERT_TRUE(sent.recorder->answer().result);
  EXPECT_EQ(sent.recorder->answer().result->tokens.size(), 6U);  // the last one is not appended
  EXPECT_EQ(sent.recorder->answer().result->finish_reason, FinishReason::kLength);
  EXPECT_EQ(last.recorder->answer().result->tokens.size(), 1U);
  // What it is to have at least is cut with what it may have.
  Request at_least = request(text(context - 5, 3), 100);
  at_least.generation.min_tokens = 90;
  const Sent short_one = send(scheduler, at_least);
  short_one.recorder->wait();
  ASSERT_TRUE(short_one.recorder->answer().result) << short_one.recorder->answer().error->what();
  EXPECT_EQ(short_one.recorder->answer().result->tokens.size(), 6U);
}

TEST_F(SchedulerTest, RefusesWhatCannotBe) {
  SchedulerOptions options;
  options.max_n = 3;
  Scheduler scheduler(model(), tokenizer(), options);
  size_t refused = 0;
  const auto refusal = [&](const std::function<void(Request&)>& change) -> std::string {
    Request asked = request(text(20, 1), 5);
    change(asked);
    try {
      (void)scheduler.submit(std::move(asked));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      ++refused;
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal([](Request& r) { r.prompt.clear(); }).find("no tokens"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.prompt = text(4097, 1); }).find("4097"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.prompt[3] = 512; }).find("512"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.n = 0; }).find("n is 0"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.n = 4; }).find("n is 4"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.document = "doc-7"; }).find("doc-7"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.session = session("snapkv", 3); }).find("budget"),
            std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.generation.sampling.top_p = 7; }).find("top_p"),
            std::string::npos);
  EXPECT_NE(refusal([](Request& r) {
              r.generation.on_text = [](std::string_view) { return true; };
            }).find("on_text"),
            std::string::npos);
  EXPECT_EQ(scheduler.status().refused, refused);
  EXPECT_EQ(scheduler.status().accepted, 0U);
  options.prompt_share = 1;
  EXPECT_THROW(Scheduler(model(), tokenizer(), options), Error);
}

}  // namespace
}  // namespace restkv::server::testing
