#include "doors/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "restkv/error.h"
#include "restkv/kv_cache.h"
#include "support/refusal.h"

namespace restkv::doors {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

template <class Call>
std::string refused(Call&& call) {
  return testing::refusal(ErrorCode::kInvalidArgument, std::forward<Call>(call));
}

TEST(DoorSettingsTest, MethodsComeAsTextWithTheirOptions) {
  const GivenMethod plain = parse_method("", "");
  EXPECT_EQ(plain.options.method, "restkv");
  EXPECT_EQ(plain.options.budget, 1024);
  const GivenMethod given = parse_method("snapkv:kernel=21:allocation=ada", "256");
  EXPECT_EQ(given.options.method, "snapkv");
  EXPECT_EQ(given.options.kernel, 21);
  EXPECT_EQ(given.options.allocation, "ada");
  EXPECT_EQ(given.options.budget, 256);
  EXPECT_EQ(parse_method("snapkv:budget=300", "").options.budget, 300);
}

TEST(DoorSettingsTest, BudgetsAreNumbersSharesOrChooseThemselves) {
  const GivenMethod share = parse_method("snapkv", "12.5%");
  ASSERT_TRUE(share.share);
  EXPECT_EQ(for_prompt(share, 1000).budget, 125);
  EXPECT_DOUBLE_EQ(parse_method("restkv", "auto:0.1:2048").options.tolerance, 0.1);
  EXPECT_EQ(parse_method("restkv", "auto:0.1:2048").options.budget, 2048);
}

TEST(DoorSettingsTest, MethodsAndBudgetsAreRefusedWithTheReason) {
  EXPECT_THAT(refused([] { parse_method("snapkvv", ""); }), HasSubstr("snapkvv"));
  EXPECT_THAT(refused([] { parse_method("snapkv:budget=300", "200"); }), HasSubstr("leave one"));
  EXPECT_THAT(refused([] { parse_method("full", "200"); }), HasSubstr("keeps everything"));
  EXPECT_THAT(refused([] { parse_method("snapkv", "many"); }), HasSubstr("many"));
  EXPECT_THAT(refused([] { parse_method("snapkv", "16"); }), HasSubstr("window"));
  EXPECT_THAT(refused([] { parse_method("snapkv:kernel", "64"); }), HasSubstr("kernel"));
}

TEST(DoorSettingsTest, SequencesTakeEachOption) {
  const GivenSequence given = resolve({.method = "tova",
                                       .budget = "64",
                                       .kv_type = "q8",
                                       .sparse = "xattention",
                                       .chunk = 512,
                                       .interval = 32,
                                       .decode_budget = 96,
                                       .compact_positions = true});
  EXPECT_EQ(given.options.compression.method, "tova");
  EXPECT_EQ(given.options.kv_type, KvType::kQ8);
  EXPECT_EQ(given.options.sparse.pattern, "xattention");
  EXPECT_EQ(given.options.chunk, 512U);
  EXPECT_EQ(given.options.interval, 32U);
  EXPECT_EQ(given.options.decode_budget, 96);
  EXPECT_TRUE(given.options.compact_positions);
  EXPECT_THAT(given.notices, IsEmpty());
}

TEST(DoorSettingsTest, WhatHasNoEffectIsRefusedOrMentioned) {
  EXPECT_THAT(refused([] { resolve({.decode_budget = 96}); }), HasSubstr("interval"));
  EXPECT_THAT(resolve({.method = "full", .interval = 5}).notices, SizeIs(1));
}

TEST(DoorSettingsTest, SamplingIsAText) {
  const SamplingOptions given = parse_sampling("temperature=0.5:top_k=3:seed=7:min_p=0");
  EXPECT_FLOAT_EQ(given.temperature, 0.5F);
  EXPECT_EQ(given.top_k, 3);
  EXPECT_EQ(given.seed, 7U);
  EXPECT_FLOAT_EQ(given.min_p, 0);
  EXPECT_FLOAT_EQ(given.top_p, SamplingOptions{}.top_p);
  EXPECT_FLOAT_EQ(parse_sampling("").temperature, 0);
  EXPECT_THAT(refused([] { parse_sampling("temp=0.5"); }), HasSubstr("known: temperature, top_k"));
  EXPECT_THAT(refused([] { parse_sampling("temperature=warm"); }), HasSubstr("warm"));
  EXPECT_THAT(refused([] { parse_sampling("temperature=-1"); }), HasSubstr("temperature"));
  EXPECT_THAT(refused([] { parse_sampling("seed=1:seed=2"); }), HasSubstr("repeated"));
}

}  // namespace
}  // namespace restkv::doors
