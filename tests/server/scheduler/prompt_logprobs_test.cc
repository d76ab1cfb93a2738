// Log-probabilities of a prompt's own tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "restkv/engine.h"
#include "server/scheduler/footprint.h"
#include "server/scheduler/scheduler_test.h"

namespace restkv::server::testing {
namespace {

class PromptLogprobsTest : public SchedulerTest {
 protected:
  /// Slowly, in double.
  static std::vector<TokenLogprob> reference(const std::vector<int32_t>& tokens, size_t likeliest) {
    std::vector<TokenLogprob> result;
    Engine(model()).score(tokens, [&](size_t first, Matrix<const float> logits) {
      for (size_t row = 0; row < logits.rows && first + row + 1 < tokens.size(); ++row) {
        std::vector<double> p(logits.row(row), logits.row(row) + logits.cols);
        const double most = *std::ranges::max_element(p);
        double sum = 0;
        for (const double z : p) sum += std::exp(z - most);
        for (double& z : p) z -= most + std::log(sum);
        std::vector<int32_t> order(p.size());
        std::iota(order.begin(), order.end(), 0);
        std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
          return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
        });
        const int32_t token = tokens[first + row + 1];
        TokenLogprob& one = result.emplace_back();
        one.token = token;
        one.logprob = p[static_cast<size_t>(token)];
        for (size_t i = 0; i < likeliest; ++i) {
          one.likeliest.emplace_back(order[i], p[static_cast<size_t>(order[i])]);
        }
      }
    });
    return result;
  }

  static void expect_near(const std::vector<TokenLogprob>& expected,
                          const std::vector<TokenLogprob>& actual) {
    ASSERT_EQ(expected.size(), actual.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(expected[i].token, actual[i].token) << i;
      ASSERT_NEAR(expected[i].logprob, actual[i].logprob, 1e-4) << i;
      ASSERT_EQ(expected[i].likeliest.size(), actual[i].likeliest.size()) << i;
      for (size_t k = 0; k < expected[i].likeliest.size(); ++k) {
        ASSERT_NEAR(expected[i].likeliest[k].second, actual[i].likeliest[k].second, 1e-4) << i;
      }
    }
  }
};

TEST_F(PromptLogprobsTest, AreThoseOfThePromptBeforeAnyCut) {
  Scheduler scheduler(model(), tokenizer(), {});
  const std::vector<int32_t> prompt = text(700, 3);
  SessionOptions cut = session("snapkv", 50);
  cut.chunk = 100;  // would cut before the end
  cut.sparse = parse_sparse("flexprefill");
  for (const SessionOptions& options : {SessionOptions(), cut}) {
    Request asked = request(prompt, 12);
    asked.session = options;
    asked.prompt_logprobs = 3;
    asked.generation.logprobs = 0;
    asked.n = 2;
    const Sent sent = send(scheduler, asked);
    sent.recorder->wait();
    ASSERT_TRUE(sent.recorder->answer().result) << sent.recorder->answer().error->what();
    ASSERT_TRUE(sent.recorder->scored());
    expect_near(reference(prompt, 3), *sent.recorder->scored());
    EXPECT_EQ(sent.recorder->progress().back(), 1);
    SessionOptions whole = options;
    whole.chunk = 0;
    whole.sparse = {};
    EXPECT_EQ(sent.recorder->answer(1).tokens, expected(asked, whole).tokens);
    EXPECT_EQ(sent.recorder->answer().logprobs.size(), 12U);
  }
}

TEST_F(PromptLogprobsTest, NeedNoAnswerAndReadThePromptAnew) {
  Scheduler scheduler(model(), tokenizer(), {});
  Request asked = request(text(200, 5), 0);
  for (size_t round = 0; round < 3; ++round) {
    const Sent plain = send(scheduler, asked);
    plain.recorder->wait();
    EXPECT_EQ(plain.recorder->answer().usage->cached_tokens, round > 0 ? 200U : 0);
    EXPECT_FALSE(plain.recorder->scored());
    Request scored = asked;
    scored.prompt_logprobs = 0;
    const Sent sent = send(scheduler, scored);
    sent.recorder->wait();
    ASSERT_TRUE(sent.recorder->answer().result);
    EXPECT_EQ(sent.recorder->answer().result->finish_reason, FinishReason::kLength);
    EXPECT_TRUE(sent.recorder->answer().tokens.empty());
    EXPECT_EQ(sent.recorder->answer().usage->cached_tokens, 0U);
    expect_near(reference(asked.prompt, 0), *sent.recorder->scored());
  }
  asked.prompt.resize(1);
  asked.prompt_logprobs = 5;
  const Sent one = send(scheduler, asked);
  one.recorder->wait();
  ASSERT_TRUE(one.recorder->answer().result);
  EXPECT_TRUE(one.recorder->scored()->empty());
}

TEST_F(PromptLogprobsTest, ArePausedForOthersAndDoNotChangeWithThem) {
  Scheduler scheduler(model(), tokenizer(), {});
  Request writing = request(text(60, 1), 200);
  writing.reuse = false;
  Request scored = request(text(1500, 2), 0);
  scored.prompt_logprobs = 2;
  const Sent alone = send(scheduler, scored);
  alone.recorder->wait();
  const std::vector<int32_t> answer = expected(writing, SessionOptions()).tokens;
  std::vector<Sent> others;
  for (size_t i = 0; i < 4; ++i) others.push_back(send(scheduler, writing));
  const Sent sent = send(scheduler, scored);
  const Sent second = send(scheduler, scored);
  for (const Sent* each : {&sent, &second}) {
    each->recorder->wait();
    ASSERT_TRUE(each->recorder->scored());
    for (size_t i = 0; i < alone.recorder->scored()->size(); ++i) {
      const TokenLogprob& a = (*alone.recorder->scored())[i];
      const TokenLogprob& b = (*each->recorder->scored())[i];
      ASSERT_EQ(a.logprob, b.logprob) << i;
      ASSERT_EQ(a.likeliest, b.likeliest) << i;
    }
  }
  for (const Sent& other : others) {
    other.recorder->wait();
    EXPECT_EQ(other.recorder->answer().tokens, answer);
  }
}

TEST_F(PromptLogprobsTest, OfADocumentAreRefused) {
  Scheduler scheduler(model(), tokenizer(), {});
  Request asked = request(text(20, 4), 1);
  asked.document = scheduler.add_document(text(100, 2));
  asked.prompt_logprobs = 1;
  try {
    (void)scheduler.submit(asked);
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find(*asked.document), std::string::npos) << error.what();
  }
}

TEST_F(PromptLogprobsTest, CountTheirMemory) {
  SchedulerOptions options;
  const PlannedTokens tokens{.prompt = 2000, .written = 1, .scored = 2};
  options.memory_limit =
      engine_footprint(model()) + footprint(model(), options.session, tokens).total(1);
  Scheduler scheduler(model(), tokenizer(), options);
  Request asked = request(text(2000, 4), 1);
  asked.prompt_logprobs = 2;
  const Sent fits = send(scheduler, asked);
  fits.recorder->wait();
  EXPECT_TRUE(fits.recorder->answer().result);
  asked.prompt_logprobs = 3;
  EXPECT_THROW((void)scheduler.submit(asked), Error);
}

TEST_F(PromptLogprobsTest, AreHeardOnceEvenByAListenerThatThrows) {
  class Throwing : public Recorder {
   public:
    void prompt_scored(std::span<const TokenLogprob> logprobs) override {
      Recorder::prompt_scored(logprobs);
      throw 5;
    }
  };
  Scheduler scheduler(model(), tokenizer(), {});
  Request asked = request(text(50, 4), 1);
  asked.prompt_logprobs = 1;
  auto listener = std::make_shared<Throwing>();
  asked.listener = listener;
  (void)scheduler.submit(asked);
  listener->wait();
  EXPECT_EQ(listener->scored()->size(), 49U);
  EXPECT_TRUE(listener->answers().empty());
  scheduler.shutdown(std::chrono::seconds(5));
  EXPECT_EQ(scheduler.status().cancelled, 1U);
}

}  // namespace
}  // namespace restkv::server::testing
