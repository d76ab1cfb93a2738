// What each of several processes checks while it computes with the others. cluster_test starts it:
// mpirun -n 3 cluster_ranks
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/threads.h"
#include "cluster/cluster.h"
#include "engine/follow.h"
#include "engine/streams.h"
#include "model/communicator.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::TinyModel;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr size_t kPrompt = 300;
constexpr int kBudget = 64;

/// Five KV heads and a network of 5 blocks, which two, three and four processes share unevenly.
TinyModel five_heads() {
  TinyModel model;
  model.width = 80;
  model.query_heads = 10;
  model.kv_heads = 5;
  model.head_dim = 16;
  model.ffn_width = 160;
  return model;
}

class Ranks : public ::testing::Test {
 protected:
  Ranks() { set_num_threads(1); }

  /// The model whole, and this process's part of it.
  struct Both {
    std::unique_ptr<Model> whole, part;
  };
  Both open(const TinyModel& tiny) {
    const std::string path = folder_.file("tiny.gguf");
    tiny.write(path);
    return {std::make_unique<Model>(path), std::make_unique<Model>(path, shared())};
  }

  [[nodiscard]] ModelOptions shared() const {
    ModelOptions options;
    options.communicator = &all_;
    return options;
  }

  Communicator& all_ = cluster();
  TemporaryFolder folder_;
};

int32_t best(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

float largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

CompressionOptions options_of(const std::string& method) {
  CompressionOptions options = default_options(method);
  options.budget = kBudget;
  options.allocation = "uniform";  // also of methods that prefer another
  return options;
}

std::optional<RepeatPrompt> words_for(const CompressionOptions& options) {
  if (repeat_chunk(options) == 0) return std::nullopt;
  return RepeatPrompt{.first = {1, 2}, .later = {3, 4}, .answer = {5}, .prefix = {}};
}

/// Reads a prompt and goes on with it: logits, and what is kept, are those of one process.
void expect_the_same(const Model& whole, const Model& part, const Communicator& all,
                     const CompressionOptions& options) {
  const std::string what = options.method + " " + options.allocation;
  Engine one(whole);
  Engine shared(part);
  std::array<CacheRequest, 2> requests;
  std::array<std::vector<float>, 2> logits;
  for (size_t i = 0; i < 2; ++i) {
    CacheRequest& request = requests[i];
    request.options = options;
    request.kv_type = KvType::kF32;
    request.keep_selections = true;
    logits[i] =
        (i == 0 ? one : shared).prefill(tokens_of(kPrompt), {&request, 1}, {}, words_for(options));
  }
  EXPECT_LT(largest_difference(logits[0], logits[1]), 2e-4) << what;
  const size_t kv_heads = whole.config().kv_heads;
  for (size_t layer = 0; layer < whole.config().layers; ++layer) {
    const auto& expected = requests[0].selections[layer].keep;
    const auto& kept = requests[1].selections[layer].keep;
    const size_t repeat = expected.size() / kv_heads;  // of selections per query head
    const Range own = share(kv_heads, 1, all.rank(), all.size());
    ASSERT_EQ(kept.size(), own.count * repeat) << what;
    for (size_t h = 0; h < kept.size(); ++h) {
      EXPECT_EQ(kept[h], expected[own.begin * repeat + h])
          << what << ", layer " << layer << ", head " << own.begin * repeat + h;
    }
  }
  int32_t token = best(logits[0]);
  for (int step = 0; step < 4; ++step) {
    const auto expected = copy(one.decode(token, requests[0].cache));
    EXPECT_LT(largest_difference(expected, shared.decode(token, requests[1].cache)), 2e-4)
        << what << ", token " << step;
    token = best(expected);
  }
}

TEST_F(Ranks, KeepWhatOneProcessKeeps) {
  const Both both = open(five_heads());
  for (const char* method :
       {"restkv", "snapkv", "full", "streaming-llm", "knorm", "keydiff", "h2o", "lagkv", "rkv",
        "dropkv", "finch", "lacache", "kvzip", "kvzip-plus", "cur", "expected-attention",
        "observed-attention", "restkv-repeat", "attention-matching"}) {
    expect_the_same(*both.whole, *both.part, all_, options_of(method));
  }
  CompressionOptions options = options_of("snapkv");
  options.allocation = "pyramid";
  expect_the_same(*both.whole, *both.part, all_, options);
  options = options_of("snapkv");
  options.per_query_head = true;
  expect_the_same(*both.whole, *both.part, all_, options);
  options = options_of("snapkv");
  options.critical = options.merge = true;
  expect_the_same(*both.whole, *both.part, all_, options);
  options = options_of("restkv");
  options.refit = Refit::kRepeat;
  expect_the_same(*both.whole, *both.part, all_, options);
}

TEST_F(Ranks, ComputeEveryFamily) {
  struct Case {
    const char* architecture;
    void (*change)(TinyModel&);
  };
  for (const Case& family :
       {Case{"llama", [](TinyModel& m) { m.biases = true; }},
        {"qwen3", [](TinyModel&) {}},
        {"phi3", [](TinyModel&) {}},
        {"gemma2", [](TinyModel& m) { m.window = 64; }},
        {"mixtral", [](TinyModel& m) { m.architecture = "llama", m.experts = 4; }},
        {"gpt-oss",
         [](TinyModel& m) {
           m.experts = 4;
           m.expert_width = 96;
           m.window = 64;
         }},
        {"qwen2moe", [](TinyModel& m) {
           m.experts = 4;
           m.expert_width = 64;
           m.shared_expert_width = 96;
         }}}) {
    SCOPED_TRACE(family.architecture);
    TinyModel tiny = five_heads();
    tiny.architecture = family.architecture;
    family.change(tiny);
    const Both both = open(tiny);
    expect_the_same(*both.whole, *both.part, all_, options_of("snapkv"));
  }
}

TEST_F(Ranks, ComputeQuantisedWeights) {
  TinyModel tiny = five_heads();
  tiny.width = 160;
  tiny.head_dim = 32;
  tiny.type = GGML_TYPE_Q8_0;
  const Both both = open(tiny);
  Engine one(*both.whole);
  Engine shared(*both.part);
  const auto tokens = tokens_of(200);
  std::vector<float> expected;
  one.score(tokens, [&](size_t, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) {
      const auto row = logits.row_span(r);
      expected.insert(expected.end(), row.begin(), row.end());
    }
  });
  size_t at = 0;
  shared.score(tokens, [&](size_t, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r, at += logits.cols) {
      EXPECT_LT(largest_difference(logits.row_span(r), {&expected[at], logits.cols}), 1e-3);
    }
  });
  EXPECT_EQ(at, expected.size());
}

TEST_F(Ranks, HaveTheSameBitsAndSendWhatTheFormulaSays) {
  const Both both = open(five_heads());
  Engine shared(*both.part);
  CacheRequest request;
  request.options = options_of("full");
  shared.prefill(tokens_of(kPrompt), {&request, 1});
  const Communicator::Traffic before = all_.traffic();
  const auto logits = copy(shared.decode(7, request.cache));
  const Communicator::Traffic after = all_.traffic();

  const ModelConfig& c = both.part->config();
  const size_t others = all_.size() - 1;
  const size_t own_logits = share(c.vocabulary, 1, all_.rank(), all_.size()).count;
  EXPECT_EQ(after.bytes - before.bytes,
            others * (2 * c.layers * c.width + own_logits) * sizeof(float));
  EXPECT_EQ(after.messages - before.messages, others * (2 * c.layers + 1));

  std::string bits(logits.size() * sizeof(float), '\0');
  std::memcpy(bits.data(), logits.data(), bits.size());
  if (all_.rank() > 0) {
    all_.send(0, bits);
    return;
  }
  for (size_t i = 0; i < others; ++i) EXPECT_EQ(all_.wait().bytes, bits);
}

TEST_F(Ranks, AddLargeMatricesInTheOrderOfRanks) {
  // More than what is added in one step, with gaps between the rows.
  constexpr size_t kRows = 37;
  constexpr size_t kCols = 1001;
  constexpr size_t kStride = 1010;
  const auto number = [](size_t rank, size_t i) {
    return static_cast<float>((rank + 1) * 7919 % 31) + static_cast<float>(i % 1013) * 1e-4F;
  };
  std::vector<float> values(kRows * kStride, -1.0F);
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < kCols; ++c) values[r * kStride + c] = number(all_.rank(), r * kCols + c);
  }
  all_.all_reduce({values.data(), kRows, kCols, kStride});
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < kCols; ++c) {
      float sum = number(0, r * kCols + c);
      for (size_t rank = 1; rank < all_.size(); ++rank) sum += number(rank, r * kCols + c);
      ASSERT_EQ(values[r * kStride + c], sum);
    }
    for (size_t c = kCols; c < kStride; ++c) ASSERT_EQ(values[r * kStride + c], -1.0F);
  }
}

/// What a session says: the most likely token after each of its changes.
std::vector<int32_t> text_of(const Engine& engine) {
  SessionOptions options;
  options.compression = options_of("snapkv");
  options.kv_type = KvType::kF32;
  options.chunk = 150;
  options.interval = 5;
  std::vector<int32_t> text;
  Session session(engine, options);
  const auto add = [&](Session& to, std::span<const int32_t> tokens) {
    text.push_back(best(to.append(tokens)));
  };
  add(session, tokens_of(kPrompt));
  for (int i = 0; i < 12; ++i) add(session, {&text.back(), 1});
  Session copy = session.fork();
  copy.set_budget(48);
  add(copy, tokens_of(60, 2));
  session.reserve(100);
  add(session, tokens_of(40, 3));
  session.compress();
  {
    const Session::Prompt given_up = copy.begin(tokens_of(100, 4));
    // A prompt that another one overtakes.
    Session third(engine, options);
    Session::Prompt steps = third.begin(tokens_of(90, 5), [&](size_t, Matrix<const float> logits) {
      text.push_back(best(logits.row_span(logits.rows - 1)));
    });
    while (steps.step(Stride::kPart)) {
    }
    text.push_back(best(third.logits()));
    const std::array<Session*, 2> together{&session, &third};
    const std::array<int32_t, 2> tokens{11, 12};
    Session::append_together(together, tokens);
    text.push_back(best(session.logits()));
    text.push_back(best(third.logits()));
  }
  return text;
}

TEST_F(Ranks, FollowTheSessionsOfRank0) {
  const Both both = open(five_heads());
  const Engine shared(*both.part);
  if (all_.rank() > 0) {
    follow(shared);
    return;
  }
  EXPECT_THAT(text_of(shared), ElementsAreArray(text_of(Engine(*both.whole))));
  lead(*both.part, SessionCall::kStop, 0);
}

TEST_F(Ranks, RefuseWhatNeedsAllHeads) {
  const Both both = open(five_heads());
  Engine shared(*both.part);
  const auto refusal_of = [&](const CompressionOptions& options) {
    CacheRequest request;
    request.options = options;
    return testing::refusal_if_any([&] { shared.prefill(tokens_of(100), {&request, 1}); });
  };
  for (const char* method : {"tova", "chunkkv", "cake", "random", "leverage", "compactor"}) {
    EXPECT_THAT(refusal_of(options_of(method)), HasSubstr(std::string("method ") + method));
  }
  CompressionOptions options = options_of("snapkv");
  for (const char* allocation : {"ada", "global"}) {
    options.allocation = allocation;
    EXPECT_THAT(refusal_of(options), HasSubstr(std::string("allocation ") + allocation));
  }
  options = options_of("snapkv");
  options.tolerance = 0.1;
  EXPECT_THAT(refusal_of(options), HasSubstr("a budget that chooses itself"));
  EXPECT_THAT(testing::refusal_if_any([&] { shared.set_sparse({.pattern = "a-shape"}); }),
              HasSubstr("a-shape"));
}

TEST_F(Ranks, RefuseModelsThatCannotBeShared) {
  const auto refusal_of = [&](const TinyModel& tiny) {
    const std::string path = folder_.file("refused.gguf");
    tiny.write(path);
    return testing::refusal_if_any([&] { Model(path, shared()); });
  };
  TinyModel tiny = five_heads();
  tiny.kv_heads = 1;
  EXPECT_THAT(refusal_of(tiny), HasSubstr("has 1 KV head, too few for"));
  tiny = five_heads();
  tiny.architecture = "olmo2";
  EXPECT_THAT(refusal_of(tiny), HasSubstr("norms all heads of a token together"));
  tiny = five_heads();
  tiny.type = GGML_TYPE_Q8_0;
  tiny.width = 32;
  tiny.ffn_width = 32;
  tiny.head_dim = 32;
  EXPECT_THAT(refusal_of(tiny), HasSubstr("has 1 block of 32 feed-forward channels, too few for"));
  tiny.ffn_width = 160;
  tiny.head_dim = 24;
  tiny.query_heads = tiny.kv_heads = 4;
  if (all_.size() != 4) return;
  EXPECT_THAT(refusal_of(tiny), HasSubstr("stores the output projection in blocks of 32"));
}

}  // namespace
}  // namespace restkv

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return restkv::leave_cluster(RUN_ALL_TESTS());
}
