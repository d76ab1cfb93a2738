#include "eval/runner.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "eval/answer.h"
#include "eval/fake_suite.h"
#include "eval/results.h"
#include "restkv/budget.h"
#include "restkv/error.h"
#include "restkv/generate.h"
#include "support/text_model.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using ::restkv::testing::FakeTask;
using ::restkv::testing::numbers_text;
using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::TextModel;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

Cell cell(const std::string& method, int budget) {
  Cell result;
  result.name = budget == 0 ? method : fmt::format("{}@{}", method, budget);
  result.method = method;
  result.budget.tokens = budget;
  result.options = default_options(method);
  if (budget > 0) result.options.budget = budget;
  return result;
}

Sample text_sample(size_t i) {
  Sample sample;
  sample.id = fmt::format("text{}", i);
  sample.prompt = numbers_text(60 + 10 * i, i);
  sample.max_new_tokens = 6;
  sample.reference = {{"i", i}};
  return sample;
}

Sample choice_sample() {
  Sample sample;
  sample.id = "choice";
  sample.mode = SampleMode::kChoose;
  sample.prompt = numbers_text(60, 3) + " Question?";
  sample.choices = {" yes", " not at all", " 12345"};
  return sample;
}

Sample continuation_sample() {
  Sample sample;
  sample.id = "continuation";
  sample.mode = SampleMode::kContinue;
  sample.tokens.resize(150);
  std::iota(sample.tokens.begin(), sample.tokens.end(), 1000);
  sample.continuation = {2000, 1001, 1002, 3000};
  return sample;
}

/// A result line without what differs from run to run.
std::string comparable(const SampleResult& result) {
  Json line = to_json(result);
  for (const char* key : {"seconds", "prefill_seconds", "peak_bytes"}) line.erase(key);
  for (auto& c : line["cells"]) {
    for (const char* key : {"compress_seconds", "decode_seconds"}) c.erase(key);
  }
  return line.dump();
}

class RunnerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { text_model = std::make_unique<TextModel>(1024); }
  static void TearDownTestSuite() { text_model.reset(); }

  RunnerTest() {
    tasks_.push_back(std::make_unique<FakeTask>(
        "texts", std::vector{text_sample(0), text_sample(1), text_sample(2)}));
    tasks_.push_back(
        std::make_unique<FakeTask>("others", std::vector{choice_sample(), continuation_sample()}));
    options_.cells = {cell("full", 0), cell("streaming-llm", 48), cell("snapkv", 48)};
    options_.prompt.context = text_model->model.config().context_length;
  }
  RunOptions in(const std::string& name) {
    RunOptions options = options_;
    options.folder = own_.file(name);
    std::filesystem::create_directories(options.folder);
    return options;
  }
  RunCount run(const RunOptions& options, const RunHooks& hooks = {}) {
    return run_samples(tasks_, text_model->model, text_model->tokenizer, options, hooks);
  }
  /// Sorted, since shards finish in their own order.
  static std::vector<std::string> lines(const std::filesystem::path& run_folder) {
    std::vector<std::string> list;
    for (const auto& result : read_results(run_folder)) list.push_back(comparable(result));
    std::ranges::sort(list);
    return list;
  }
  /// The result of one sample, run on its own.
  SampleResult result_of(const Sample& sample) {
    tasks_.clear();
    tasks_.push_back(std::make_unique<FakeTask>("one", std::vector{sample}));
    const RunOptions options = in(fmt::format("one{}", ++runs_));
    run(options);
    return read_results(options.folder).at(0);
  }
  std::string text_of(const Sample& sample) { return result_of(sample).cells.at(0).answer.text; }

  static std::unique_ptr<TextModel> text_model;
  TemporaryFolder own_;
  std::vector<std::unique_ptr<Task>> tasks_;
  RunOptions options_;
  int runs_ = 0;
};

std::unique_ptr<TextModel> RunnerTest::text_model;

TEST_F(RunnerTest, ScoresEveryCellOfEverySample) {
  const RunOptions options = in("run");
  double last = 0;
  RunHooks hooks;
  hooks.progress = [&](double fraction, const std::string& detail) {
    EXPECT_GE(fraction, last);
    EXPECT_LE(fraction, 1);
    EXPECT_THAT(detail, HasSubstr("/5, "));
    last = fraction;
  };
  hooks.peak_bytes = [] { return size_t{123}; };
  const RunCount count = run(options, hooks);
  EXPECT_EQ(count.samples, 5U);
  EXPECT_EQ(count.before, 0U);
  EXPECT_EQ(count.failed, 0U);
  EXPECT_DOUBLE_EQ(last, 1);

  const auto results = read_results(options.folder);
  ASSERT_EQ(results.size(), 5U);
  for (const auto& result : results) {
    ASSERT_EQ(result.cells.size(), 3U);
    EXPECT_EQ(result.cells[2].cell, "snapkv@48");
    EXPECT_EQ(result.peak_bytes, 123U);
    EXPECT_GT(result.prefill_seconds, 0);
    EXPECT_GT(result.seconds, result.prefill_seconds);
    EXPECT_GT(result.cells[0].kv_bytes, result.cells[1].kv_bytes);
    EXPECT_EQ(result.cells[1].kv_bytes, 48U * text_model->model.config().kv_bytes(1));
    EXPECT_EQ(result.cells[0].scores.at(0).first, "length");
  }
  EXPECT_EQ(results[1].id, "text1");
  EXPECT_EQ(results[1].reference, Json({{"i", 1}}));
}

TEST_F(RunnerTest, ContinuesTextsAsTheEngineDoes) {
  Sample sample = text_sample(1);
  sample.max_new_tokens = 12;
  Engine engine(text_model->model);
  std::vector<CacheRequest> requests(1);
  requests[0].options = cell("snapkv", 48).options;
  const auto logits =
      engine.prefill(text_model->tokenizer.encode(sample.prompt, true, true), requests);
  GenerationOptions options;
  options.max_tokens = sample.max_new_tokens;
  const GenerationResult expected = generate(
      [&](int32_t token) {
        KvCache* const caches[] = {&requests[0].cache};
        return engine.decode({&token, 1}, caches).row_span(0);
      },
      logits, text_model->tokenizer, options);
  const SampleResult result = result_of(sample);
  EXPECT_EQ(result.cells.at(2).answer.text, expected.text);
  EXPECT_EQ(result.cells.at(2).decode_steps, expected.steps);
  EXPECT_NE(result.cells.at(0).answer.text, "");

  // A stop ends the text before it, wherever its characters meet the tokens' borders.
  ASSERT_GT(expected.text.size(), 8U);
  sample.stops = {"never said", expected.text.substr(5, 3)};
  EXPECT_EQ(result_of(sample).cells.at(2).answer.text,
            expected.text.substr(0, expected.text.find(sample.stops[1])));
}

TEST_F(RunnerTest, DrawsSeveralTexts) {
  Sample sample = text_sample(2);
  sample.sampling.temperature = 5;
  sample.sampling.seed = 7;
  sample.draws = 3;
  const Answer answer = result_of(sample).cells.at(0).answer;
  ASSERT_EQ(answer.more_texts.size(), 2U);
  EXPECT_NE(answer.text, answer.more_texts[0]);
  EXPECT_NE(answer.more_texts[0], answer.more_texts[1]);
  sample.draws = 1;
  EXPECT_EQ(text_of(sample), answer.text);
  sample.sampling.seed = 8;
  EXPECT_EQ(text_of(sample), answer.more_texts[0]) << "each draw begins with the same cache";
}

TEST_F(RunnerTest, ScoresChoicesOnTheCacheOrInOnePrefill) {
  const SampleResult compressed = result_of(choice_sample());
  options_.cells = {cell("full", 0)};
  options_.choices = ChoiceMode::kJoint;
  const Answer joint = result_of(choice_sample()).cells.at(0).answer;
  const Answer& full = compressed.cells.at(0).answer;
  const Answer& snapkv = compressed.cells.at(2).answer;
  ASSERT_EQ(joint.log_likelihoods.size(), 3U);
  ASSERT_EQ(full.greedy.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(full.log_likelihoods[i], joint.log_likelihoods[i], 0.02) << "f16 cache or none";
    EXPECT_EQ(full.greedy[i], joint.greedy[i]);
    EXPECT_LT(joint.log_likelihoods[i], 0);
  }
  EXPECT_EQ(snapkv.log_likelihoods[0], full.log_likelihoods[0]) << "one token: the prefill's";
  EXPECT_NE(snapkv.log_likelihoods[1], full.log_likelihoods[1]) << "read from the evicted cache";
}

TEST_F(RunnerTest, ATokenHeldBackReadsTheEvictedCacheBeforeEveryChoice) {
  options_.choices = ChoiceMode::kHeldBack;
  options_.kv_type = KvType::kF32;
  const SampleResult held_back = result_of(choice_sample());
  options_.cells = {cell("full", 0)};
  options_.choices = ChoiceMode::kJoint;
  const Answer joint = result_of(choice_sample()).cells.at(0).answer;
  const Answer& full = held_back.cells.at(0).answer;
  const Answer& snapkv = held_back.cells.at(2).answer;
  ASSERT_EQ(full.log_likelihoods.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(full.log_likelihoods[i], joint.log_likelihoods[i], 0.02) << "nothing was evicted";
    EXPECT_EQ(full.greedy[i], joint.greedy[i]);
    EXPECT_GT(std::abs(snapkv.log_likelihoods[i] - full.log_likelihoods[i]), 0.0001) << i;
  }
  // Of the tokens of all choices (1, 3 and 6 or so) the last ones are never fed; the one held back
  // is, once for all choices.
  const Sample sample = choice_sample();
  size_t fed = 1;
  for (const std::string& choice : sample.choices) {
    fed += text_model->tokenizer.encode(choice, false, false).size() - 1;
  }
  EXPECT_EQ(held_back.cells.at(0).decode_steps, fed);
}

TEST_F(RunnerTest, AContextOfOneTokenIsNotHeldBack) {
  Sample sample = choice_sample();
  sample.prompt = "";
  const Answer compressed = result_of(sample).cells.at(1).answer;
  options_.choices = ChoiceMode::kHeldBack;
  EXPECT_EQ(result_of(sample).cells.at(1).answer.log_likelihoods, compressed.log_likelihoods);
}

TEST_F(RunnerTest, BeginOfTextStandsBeforeChoicesWhereAskedFor) {
  const SampleResult without = result_of(choice_sample());
  options_.prompt.choices_with_bos = true;
  const SampleResult with = result_of(choice_sample());
  EXPECT_EQ(with.prompt_tokens, without.prompt_tokens + 1);
  // The same as if it stood in the text, where it is not put twice.
  Sample sample = choice_sample();
  sample.prompt = "<|im_start|>" + sample.prompt;
  ASSERT_EQ(text_model->tokenizer.encode("<|im_start|>", false, true).at(0),
            text_model->tokenizer.prefix_token());
  EXPECT_EQ(result_of(sample).cells.at(0).answer.log_likelihoods,
            with.cells.at(0).answer.log_likelihoods);
}

TEST(ChoiceModes, HaveNames) {
  for (const char* name : {"compressed", "held-back", "joint"}) {
    EXPECT_EQ(choice_mode_name(find_choice_mode(name)), name);
  }
  EXPECT_THROW(find_choice_mode("apart"), Error);
}

TEST_F(RunnerTest, LosesOfAContinuationAreThoseOfTheWholeText) {
  const Sample sample = continuation_sample();
  std::vector<int32_t> whole = sample.tokens;
  whole.insert(whole.end(), sample.continuation.begin(), sample.continuation.end());
  std::vector<double> expected;
  Engine engine(text_model->model);
  engine.score(whole, [&](size_t first, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) {
      const size_t next = first + r + 1;
      if (next < sample.tokens.size() || next >= whole.size()) continue;
      double sum = 0;
      for (size_t v = 0; v < logits.cols; ++v) sum += std::exp(double{logits.row(r)[v]});
      expected.push_back(std::log(sum) - logits.row(r)[static_cast<size_t>(whole[next])]);
    }
  });
  const SampleResult result = result_of(sample);
  const Answer& full = result.cells.at(0).answer;
  const Answer& snapkv = result.cells.at(2).answer;
  ASSERT_EQ(full.token_losses.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(full.token_losses[i], expected[i], 0.01) << i;
  }
  EXPECT_EQ(snapkv.token_losses[0], full.token_losses[0]);
  EXPECT_NE(snapkv.token_losses[1], full.token_losses[1]);
}

TEST_F(RunnerTest, GoesOnWhereItStopped) {
  const RunOptions whole = in("whole");
  run(whole);
  const RunOptions parts = in("parts");
  // Interrupted in every phase: while reading prompts and between tokens.
  size_t starts = 0;
  for (size_t patience = 1; starts < 100; patience += 2, ++starts) {
    size_t asked = 0;
    RunHooks hooks;
    hooks.interrupted = [&] { return ++asked > patience; };
    const size_t before = read_results(parts.folder).size();
    try {
      const RunCount count = run(parts, hooks);
      EXPECT_EQ(count.before, before);
      break;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInterrupted);
    }
  }
  EXPECT_GT(starts, 5U);
  EXPECT_EQ(lines(parts.folder), lines(whole.folder));
  const RunCount again = run(parts);
  EXPECT_EQ(again.before, 5U);
  EXPECT_EQ(lines(parts.folder), lines(whole.folder));
}

TEST_F(RunnerTest, RepeatsATornSample) {
  const RunOptions options = in("run");
  run(options);
  const auto expected = lines(options.folder);
  const auto file = options.folder / "results.jsonl";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 30);
  const RunCount count = run(options);
  EXPECT_EQ(count.before, 4U);
  EXPECT_EQ(lines(options.folder), expected);
}

TEST_F(RunnerTest, ShardsMakeTheWhole) {
  const RunOptions whole = in("whole");
  run(whole);
  RunOptions part = in("parts");
  part.shards = 3;
  size_t samples = 0;
  for (part.shard = 0; part.shard < 3; ++part.shard) samples += run(part).samples;
  EXPECT_EQ(samples, 5U);
  EXPECT_EQ(lines(part.folder), lines(whole.folder));
  part.shards = 1;
  part.shard = 0;
  EXPECT_EQ(run(part).before, 5U) << "one process finds what the shards did";
}

TEST_F(RunnerTest, RecordsWhatOneSampleCannotDo) {
  Sample too_long = continuation_sample();
  too_long.tokens.resize(2000, 5);
  Sample no_text = text_sample(0);
  no_text.prompt = "";
  no_text.add_special = false;
  Sample conversation = text_sample(0);
  conversation.turns = {{.prompt = numbers_text(1200, 1)}};
  tasks_.clear();
  tasks_.push_back(std::make_unique<FakeTask>(
      "mixed", std::vector{too_long, no_text, conversation, text_sample(1)}));
  const RunOptions options = in("run");
  const RunCount count = run(options);
  EXPECT_EQ(count.samples, 4U);
  EXPECT_EQ(count.failed, 3U);
  const auto results = read_results(options.folder);
  EXPECT_THAT(results[0].error, HasSubstr("the model's context holds 1024"));
  EXPECT_TRUE(results[0].cells.empty());
  EXPECT_THAT(results[1].error, HasSubstr("no tokens"));
  EXPECT_THAT(results[2].error, HasSubstr("context"));
  EXPECT_EQ(results[3].error, "");
  EXPECT_EQ(run(options).failed, 3U) << "a later start does not try again, but says so";
}

TEST_F(RunnerTest, GoesOnWhateverASampleThrows) {
  class Throwing : public FakeTask {
   public:
    using FakeTask::FakeTask;
    [[nodiscard]] Sample sample(size_t index) const override {
      if (index == 1) throw std::runtime_error("no such sample");
      return FakeTask::sample(index);
    }
  };
  Sample endless = text_sample(0);
  endless.prompt = std::string(5U << 20U, 'x');  // more than the tokenizer takes in one piece
  tasks_.clear();
  tasks_.push_back(
      std::make_unique<Throwing>("mixed", std::vector{endless, text_sample(0), text_sample(1)}));
  const RunOptions options = in("run");
  bool uninterruptible = false;
  int announced = 0;
  RunHooks hooks;
  hooks.uninterruptible = [&](bool begins) {
    EXPECT_NE(begins, uninterruptible);
    uninterruptible = begins;
    ++announced;
  };
  EXPECT_EQ(run(options, hooks).failed, 2U);
  EXPECT_FALSE(uninterruptible);
  EXPECT_EQ(announced, 2) << "once for the long text";
  const auto results = read_results(options.folder);
  ASSERT_EQ(results.size(), 3U);
  EXPECT_THAT(results[0].error, HasSubstr("characters on end without a break"));
  EXPECT_THAT(results[1].error, HasSubstr("no such sample"));
  EXPECT_EQ(results[2].error, "");
  EXPECT_EQ(run(options).before, 3U) << "a later start goes past them";
}

TEST_F(RunnerTest, HoldsAConversationWithEveryCell) {
  Sample conversation = text_sample(0);
  conversation.turns = {{.prompt = numbers_text(30, 1)}, {.prompt = numbers_text(40, 2)}};
  tasks_.clear();
  tasks_.push_back(std::make_unique<FakeTask>("talk", std::vector{conversation}));
  const RunOptions options = in("run");
  EXPECT_EQ(run(options).failed, 0U);
  const auto results = read_results(options.folder);
  ASSERT_EQ(results.size(), 1U);
  ASSERT_EQ(results[0].cells.size(), options.cells.size());
  for (const CellResult& c : results[0].cells) {
    EXPECT_EQ(c.answer.turn_texts.size(), 2U) << c.cell;
    EXPECT_EQ(c.answer.turn_tokens.size(), 2U) << c.cell;
    if (c.cell != "full") {
      EXPECT_EQ(c.answer.turn_tokens.back(), 48U) << c.cell;
    }
  }
}

/// "... What is it?" behind a context of numbers.
Sample asked_sample(size_t i) {
  Sample sample = text_sample(i);
  sample.context_end = sample.prompt.size();
  sample.prompt += "\nWhat was the first number?";
  return sample;
}

TEST_F(RunnerTest, AQuestionThatComesLaterIsReadBehindTheCompressedContext) {
  const Sample sample = asked_sample(2);
  tasks_.clear();
  tasks_.push_back(std::make_unique<FakeTask>("asked", std::vector{sample}));
  RunOptions options = in("after");
  options.question = QuestionTime::kAfter;
  options.cells.push_back(cell("streaming-llm", 0));
  options.cells.back().name = "streaming-llm@50%";
  options.cells.back().budget = parse_budget("50%");
  EXPECT_EQ(run(options).failed, 0U);
  const SampleResult result = read_results(options.folder).at(0);

  const PromptTokens prompt = prompt_tokens(text_model->tokenizer, sample, options.prompt);
  const std::span<const int32_t> all(prompt.tokens);
  ASSERT_GT(prompt.context, 60U);
  ASSERT_EQ(text_model->tokenizer.decode(all.subspan(prompt.context)),
            "What was the first number?");
  Engine engine(text_model->model);
  for (size_t i = 0; i < options.cells.size(); ++i) {
    CacheRequest request;
    request.options = options.cells[i].options;
    if (options.cells[i].budget.share > 0) {
      request.options.budget = static_cast<int>(prompt.context / 2);
    }
    engine.prefill(all.first(prompt.context), {&request, 1});
    EXPECT_EQ(result.cells[i].kv_bytes, request.cache.kept_bytes()) << options.cells[i].name;
    const std::vector<float> logits = engine.extend(all.subspan(prompt.context), request.cache);
    Answerer answerer(text_model->tokenizer, engine, {});
    const auto answers = answerer.generate(sample, {&logits, 1}, {&request.cache, 1});
    EXPECT_EQ(result.cells[i].answer.text, answers.at(0).answer.text) << options.cells[i].name;
  }
}

TEST_F(RunnerTest, NamesWhatHasNoQuestionThatCouldComeLater) {
  Sample unknown = text_sample(0);
  tasks_[0] = std::make_unique<FakeTask>("texts", std::vector{unknown});
  RunOptions options = in("after");
  options.question = QuestionTime::kAfter;
  EXPECT_EQ(run(options).failed, 3U);
  std::vector<std::string> errors;
  for (const SampleResult& result : read_results(options.folder)) errors.push_back(result.error);
  EXPECT_THAT(errors, UnorderedElementsAre(HasSubstr("'context_end'"), HasSubstr("choices"),
                                           HasSubstr("continued")));
}

TEST_F(RunnerTest, RefusesOptionsBeforeTheFirstSample) {
  RunOptions options = in("run");
  options.cells[2].options.budget = 8;
  EXPECT_THROW(run(options), Error);
  EXPECT_TRUE(std::filesystem::is_empty(options.folder));
}

TEST_F(RunnerTest, SettingsNameAllThatDecidesTheResults) {
  std::ofstream(own_.file("data.jsonl")) << "abc";
  class WithFile : public FakeTask {
   public:
    using FakeTask::FakeTask;
    std::filesystem::path file;
    [[nodiscard]] std::vector<std::filesystem::path> files() const override { return {file}; }
  };
  auto task = std::make_unique<WithFile>("texts", std::vector{text_sample(0)});
  task->file = own_.file("data.jsonl");
  tasks_.clear();
  tasks_.push_back(std::move(task));

  Suite suite{};
  suite.name = "fake";
  suite.remark = "difflib";
  SuiteOptions suite_options;
  suite_options.data = own_.file("");
  const std::vector<SkippedLine> skipped{{own_.file("data.jsonl"), 7, "no answer"}};
  const auto settings = [&] {
    return run_settings(suite, suite_options, tasks_, skipped, text_model->model, options_,
                        "1.2.3");
  };
  const Json json = settings();
  EXPECT_EQ(json.at("version"), "1.2.3");
  EXPECT_EQ(json.at("benchmark"), "fake");
  EXPECT_EQ(json.at("remark"), "difflib");
  EXPECT_EQ(json.at("model").at("sha256").get<std::string>().size(), 64U);
  const auto& cells = json.at("cells");
  ASSERT_EQ(cells.size(), 3U);
  EXPECT_EQ(cells[2].at("name"), "snapkv@48");
  EXPECT_EQ(cells[2].at("parameters").at("kernel"), "5");
  EXPECT_FALSE(cells[2].at("parameters").contains("sinks")) << "snapkv does not read it";
  const auto& first = json.at("tasks").at(0);
  EXPECT_EQ(first.at("samples"), 1);
  EXPECT_EQ(first.at("subset"), true) << "1 of 100";
  EXPECT_EQ(first.at("files").at(0).at("file"), "data.jsonl");
  EXPECT_EQ(first.at("files").at(0).at("sha256"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(json.at("skipped_lines").at(0).at("line"), 7);

  options_.cells[2].options.kernel = 7;
  EXPECT_NE(settings(), json);
  options_.cells[2].options.kernel = 5;
  options_.prompt.max_prompt = 500;
  EXPECT_NE(settings(), json);
  options_.prompt.max_prompt = 0;
  options_.prompt.parse_special = true;
  EXPECT_NE(settings(), json);
  options_.prompt.parse_special = false;
  std::ofstream(own_.file("data.jsonl")) << "abd";
  EXPECT_NE(settings(), json);
}

}  // namespace
}  // namespace restkv::eval
