// What work is expected to take, beside what it takes.
#include "server/scheduler/footprint.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "generate/logprobs.h"
#include "restkv/engine.h"
#include "restkv/session.h"
#include "support/sanitizers.h"
#include "support/tiny_model.h"

namespace {

std::atomic<size_t> in_use = 0;
std::atomic<size_t> peak = 0;

void* counted(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  const size_t now = in_use += malloc_usable_size(p);
  size_t before = peak;
  while (before < now && !peak.compare_exchange_weak(before, now)) {
  }
  return p;
}

void release(void* p) {
  if (p != nullptr) in_use -= malloc_usable_size(p);
  std::free(p);
}

}  // namespace

void* operator new(size_t bytes) { return counted(std::malloc(bytes)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  const auto a = static_cast<size_t>(alignment);
  return counted(std::aligned_alloc(a, (bytes + a - 1) / a * a));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { release(p); }

namespace restkv::server {
namespace {

std::vector<int32_t> text(size_t tokens) {
  std::vector<int32_t> result(tokens);
  for (size_t i = 0; i < tokens; ++i) result[i] = static_cast<int32_t>((i * 97 + i * i) % 256);
  return result;
}

struct Case {
  std::string name;
  SessionOptions session;
  size_t prompt = 0;
  size_t written = 0;
  size_t before = 0;  ///< Read by an earlier prompt.
  std::optional<size_t> scored = {};
  bool reserved = false;
  double least = 0.5;  ///< Part of the estimate that must be needed.
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const std::string& method, int budget, size_t prompt,
                       size_t written) -> Case& {
    Case& added = all.emplace_back();
    added.name = method;
    added.session.compression = default_options(method);
    added.session.compression.budget = budget;
    added.prompt = prompt;
    added.written = written;
    return added;
  };
  for (const char* method : {"restkv", "snapkv", "h2o", "full", "streaming-llm", "tova",
                             "expected-attention", "knorm", "lacache", "lagkv", "keydiff"}) {
    add(method, 512, 2000, 80);
  }
  add("restkv", 512, 300, 300);
  add("restkv", 512, 2000, 200).session.interval = 64;
  add("h2o", 512, 2500, 80).session.chunk = 600;
  add("full", 512, 2000, 100).session.kv_type = KvType::kF32;
  add("full", 512, 2000, 100).session.kv_type = KvType::kQ8;
  add("snapkv", 1024, 2000, 80).session.kv_type = KvType::kQ4;
  add("snapkv", 1024, 2000, 80).session.compression.allocation = "ada";
  add("snapkv", 1024, 2000, 80).session.compression.allocation = "pyramid";
  add("snapkv", 1024, 2000, 80).session.compression.per_query_head = true;
  add("snapkv", 512, 2000, 80).session.compression.refit = Refit::kWindow;
  for (const char* allocation : {"uniform", "global"}) {
    Case& refitted = add("snapkv", 256, 1000, 80);
    refitted.least = 0.25;  // threads seldom fit their largest heads at the same time
    SessionOptions& session = refitted.session;
    session.compression.refit = Refit::kRepeat;
    session.compression.allocation = allocation;
    session.repeat.emplace();
  }
  add("restkv", 512, 1000, 50).before = 1500;
  add("full", 512, 1000, 50).before = 1500;
  {
    Case& reserved = add("restkv", 512, 1000, 200);
    reserved.before = 1500;
    reserved.session.interval = 16;
    reserved.reserved = true;
  }
  {
    Case& question = add("kvzip", 512, 1000, 200);
    question.session.repeat.emplace();
    question.before = 1500;
    question.reserved = true;
  }
  add("kvzip", 512, 1000, 80).session.repeat.emplace();
  add("restkv", 512, 2500, 50).session.sparse = parse_sparse("flexprefill");
  add("restkv", 512, 2500, 50).session.sparse = parse_sparse("xattention");
  add("restkv", 512, 2000, 10).scored = 20;
  add("full", 512, 300, 10).scored = 0;
  return all;
}

enum class Kind { kPlain, kWindows, kExperts };

class FootprintTest : public ::testing::TestWithParam<Kind> {
 protected:
  FootprintTest() {
    testing::TinyModel tiny;
    tiny.layers = 4;
    tiny.width = 256;
    tiny.head_dim = 64;
    tiny.ffn_width = 512;
    tiny.type = GGML_TYPE_Q8_0;
    if (GetParam() == Kind::kExperts) tiny.experts = 8;
    if (GetParam() == Kind::kWindows) {
      tiny.architecture = "gemma3";
      tiny.window = 128;
      tiny.window_pattern = 2;
    }
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_P(FootprintTest, IsWhatIsAllocatedAtMost) {
  if (testing::sanitized()) GTEST_SKIP() << "a sanitizer takes memory, too";
  set_num_threads(2);
  const auto work = [&](const Engine& engine) {
    SessionOptions options;
    options.compression.budget = 512;
    Session session(engine, options);
    (void)session.append(text(2000));
    std::vector<Session> many;
    std::vector<Session*> together;
    for (size_t i = 0; i < Engine::kMaxBatch; ++i) {
      (void)many.emplace_back(engine, options).append(text(2));
    }
    for (Session& each : many) together.push_back(&each);
    Session::append_together(together, text(Engine::kMaxBatch));
  };
  work(Engine(*model_));  // copies of weights are the model's
  const size_t without = in_use;
  const Engine engine(*model_);
  work(engine);
  EXPECT_LE(in_use - without, engine_footprint(*model_));
  EXPECT_GE(static_cast<double>(in_use - without),
            0.4 * static_cast<double>(engine_footprint(*model_)));
  for (const Case& each : cases()) {
    std::optional<Session> session(std::in_place, engine, each.session);
    size_t held = 0;
    if (each.before > 0) {
      (void)session->append(text(each.before));
      held = each.session.compression.method == "full" ? each.before : 512;
    }
    if (each.reserved) session->reserve(each.prompt + each.written);
    // It takes what the engine keeps for one prompt: the next one is on its own.
    Session paused(engine, {});
    Session::Prompt taken = paused.begin(text(100));
    (void)taken.step();
    const size_t before = in_use - (each.before > 0 ? session->allocated_bytes() : 0);
    const Footprint estimate = footprint(*model_, each.session,
                                         {.before = each.before,
                                          .held = held,
                                          .prompt = each.prompt,
                                          .written = each.written,
                                          .reserved = each.reserved,
                                          .scored = each.scored});
    peak = in_use.load();
    std::vector<TokenLogprob> scores(each.scored ? each.prompt : 0);
    PromptLogits score;
    if (each.scored) {
      score = [&](size_t first, Matrix<const float> logits) {
        for (size_t row = 0; row < logits.rows; ++row) {
          scores[first + row] = logprob_of(7, logits.row_span(row), *each.scored);
        }
      };
    }
    {
      Session::Prompt prompt = session->begin(text(each.prompt), score);
      while (prompt.step()) {
      }
    }
    scores = {};
    const size_t of_prompt = peak - before;
    size_t most = session->allocated_bytes();
    peak = in_use.load();
    for (size_t i = 0; i < each.written; ++i) {
      Session* const one[] = {&*session};
      Session::append_together(one, std::vector<int32_t>{7});
      most = std::max(most, session->allocated_bytes());
    }
    RecordProperty(each.name,
                   std::to_string(estimate.total(1)) + " for " + std::to_string(of_prompt));
    EXPECT_LE(most, estimate.sequence) << each.name;
    EXPECT_LE(of_prompt, estimate.total(1)) << each.name;
    EXPECT_GE(static_cast<double>(most), 0.6 * static_cast<double>(estimate.sequence)) << each.name;
    EXPECT_GE(static_cast<double>(of_prompt), each.least * static_cast<double>(estimate.total(1)))
        << each.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FootprintTest,
                         ::testing::Values(Kind::kPlain, Kind::kWindows, Kind::kExperts));

}  // namespace
}  // namespace restkv::server
