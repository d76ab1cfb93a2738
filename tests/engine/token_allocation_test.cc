// A decoded token allocates nothing but room for the rows that join a cache, and that rarely.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/threads.h"
#include "restkv/engine.h"
#include "restkv/session.h"
#include "support/allocations.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

constexpr size_t kPrompt = 40;
/// Until a group of rows was closed for the first time, also of 8 bits.
constexpr size_t kWarmUp = 32;
/// Altogether less than 256 positions, for which a table of angles is made at once.
constexpr size_t kTokens = 180;
/// A head that moves gets room for at least so many more rows.
constexpr size_t kLeastRoom = 64;

std::vector<int32_t> prompt() {
  std::vector<int32_t> tokens(kPrompt);
  for (size_t i = 0; i < kPrompt; ++i) tokens[i] = static_cast<int32_t>((i * 97 + 31) % 256);
  return tokens;
}

class TokenAllocationTest : public ::testing::Test {
 public:
  ~TokenAllocationTest() override { set_num_threads(threads_); }

 protected:
  TokenAllocationTest() {
    // One thread: with more it depends on luck when each of them has its first task.
    set_num_threads(1);
    testing::TinyModel tiny;
    tiny.experts = 4;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  /// Decodes kTokens tokens, of which only those for which caches make room may allocate: two
  /// pieces of memory for each head, rows and positions. And up to `others`, for what else has as
  /// many elements as the caches have rows.
  template <class Decode>
  void expect_amortised(size_t cache_heads, const std::vector<const KvCache*>& caches,
                        const Decode& decode, size_t others = 0) {
    const auto held = [&] {
      size_t bytes = 0;
      for (const KvCache* cache : caches) bytes += cache->allocated_bytes();
      return bytes;
    };
    for (size_t i = 0; i < kWarmUp; ++i) decode();
    size_t growths = 0;
    size_t other = 0;
    for (size_t i = 0; i < kTokens; ++i) {
      const size_t bytes = held();
      const size_t before = testing::allocations();
      decode();
      const size_t made = testing::allocations() - before;
      if (held() != bytes) {
        ++growths;
        ASSERT_LE(made, 2 * cache_heads) << "at token " << i;
      } else if (made > 0) {
        ++other;
        ASSERT_LE(other, others) << made << " at token " << i;
      }
    }
    EXPECT_GT(growths, 0U) << "the caches grew";
    EXPECT_LE(growths, kTokens / kLeastRoom + 1);
  }

  [[nodiscard]] size_t cache_heads() const {
    return model_->config().layers * model_->config().kv_heads;
  }

  int threads_ = num_threads();
  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(TokenAllocationTest, DecodingOneCacheOnlyGrowsIt) {
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8, KvType::kQ4}) {
    SCOPED_TRACE(kv_type_name(type));
    Engine engine(*model_);
    std::vector<CacheRequest> requests(1);
    requests[0].options.budget = 36;
    requests[0].kv_type = type;
    (void)engine.prefill(prompt(), requests);
    expect_amortised(cache_heads(), {&requests[0].cache},
                     [&] { (void)engine.decode(7, requests[0].cache); });
  }
}

TEST_F(TokenAllocationTest, DecodingTogetherOnlyGrowsTheCaches) {
  Engine engine(*model_);
  std::vector<CacheRequest> requests(3);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].options.budget = 36;
    requests[i].kv_type = i == 0 ? KvType::kQ8 : KvType::kF16;
  }
  (void)engine.prefill(prompt(), requests);
  std::vector<KvCache*> caches;
  caches.reserve(requests.size());
  for (CacheRequest& request : requests) caches.push_back(&request.cache);
  const std::vector<int32_t> tokens(caches.size(), 7);
  expect_amortised(caches.size() * cache_heads(), {caches.begin(), caches.end()},
                   [&] { (void)engine.decode(tokens, caches); });
}

TEST_F(TokenAllocationTest, AppendingToASessionOnlyGrowsItsCache) {
  // What they observe of a token differs: queries, attention, moments of the queries, what layers
  // read. H2O's sums grow by half and the weights it adds to them to the double, while 72 rows
  // become 252; so do kvzap's scores.
  const std::vector<std::pair<const char*, size_t>> methods = {
      {"restkv", 0}, {"h2o", 4 + 2}, {"expected-attention", 0}, {"kvzap", 4 + 2}};
  const ModelConfig& c = model_->config();
  const std::string statistics = folder_.file("statistics.json");
  testing::StatisticsFile::of(c.layers, c.query_heads, c.rope.dim / 2, c.kv_heads, c.width)
      .write(statistics);
  for (const auto& [method, others] : methods) {
    SCOPED_TRACE(method);
    SessionOptions options;
    options.compression = default_options(method);
    options.compression.budget = 64;
    options.compression.statistics = statistics;
    Session session(*model_, options);
    (void)session.append(prompt());
    const std::vector<int32_t> token{7};
    expect_amortised(
        cache_heads(), {&session.cache()}, [&] { (void)session.append(token); }, others);
  }
}

}  // namespace
}  // namespace restkv
