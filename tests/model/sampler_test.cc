#include "restkv/sampler.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "restkv/error.h"

namespace restkv {
namespace {

constexpr size_t kVocabulary = 8;

TEST(Sampler, RefusesNumbersThatLibllamaWouldComputeNonsenseWith) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (float SamplingOptions::*option :
       {&SamplingOptions::temperature, &SamplingOptions::top_p, &SamplingOptions::min_p,
        &SamplingOptions::repeat_penalty, &SamplingOptions::presence_penalty,
        &SamplingOptions::frequency_penalty}) {
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, 1e30F,
                              std::numeric_limits<float>::max()}) {
      SamplingOptions options;
      options.*option = value;
      EXPECT_THROW(validate(options), Error) << value;
      EXPECT_THROW(Sampler(options, kVocabulary), Error) << value;
    }
  }
  for (int SamplingOptions::*option : {&SamplingOptions::top_k, &SamplingOptions::repeat_last_n}) {
    SamplingOptions options;
    options.*option = -1;
    EXPECT_THROW(validate(options), Error);
  }
  // A window of the penalties takes memory as soon as it is made.
  SamplingOptions endless;
  endless.repeat_last_n = std::numeric_limits<int>::max();
  EXPECT_THROW(validate(endless), Error);
}

TEST(Sampler, EveryOtherSeedIsTheSameInEveryRun) {
  SamplingOptions options{.temperature = 1};
  options.seed = std::numeric_limits<uint32_t>::max();  // any seed, says libllama
  EXPECT_THROW(validate(options), Error);
  for (const uint32_t seed : {0U, 1U, std::numeric_limits<uint32_t>::max() - 1}) {
    options.seed = seed;
    const auto drawn = [&] {
      Sampler sampler(options, kVocabulary);
      const std::vector<float> even(kVocabulary, 0);
      std::vector<int32_t> tokens(40);
      for (int32_t& token : tokens) token = sampler.sample(even);
      return tokens;
    };
    EXPECT_EQ(drawn(), drawn()) << seed;
  }
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const SamplingOptions& options : {SamplingOptions{}, SamplingOptions{.repeat_penalty = 2},
                                         SamplingOptions{.temperature = 1}}) {
    Sampler sampler(options, kVocabulary);
    for (const float value : {kNan, -kNan, kInfinity}) {
      EXPECT_THROW((void)sampler.sample(std::vector<float>(kVocabulary, value)), Error);
      for (const size_t place : {size_t{0}, kVocabulary - 1}) {
        std::vector<float> logits(kVocabulary, 1);
        logits[place] = value;
        EXPECT_THROW((void)sampler.pick(logits), Error) << place;
      }
    }
    std::vector<float> logits(kVocabulary, -kInfinity);
    logits[5] = -3;
    EXPECT_EQ(sampler.sample(logits), 5);
  }
}

TEST(Sampler, TheOutermostValuesStillPickATokenOfTheVocabulary) {
  for (const float extreme : {1e-6F, 1e6F}) {
    for (const float penalty : {-1e6F, 1e6F}) {
      const SamplingOptions options{.temperature = extreme,
                                    .top_k = 0,
                                    .top_p = 1,
                                    .min_p = 0,
                                    .repeat_penalty = extreme,
                                    .presence_penalty = penalty,
                                    .frequency_penalty = penalty};
      Sampler sampler(options, kVocabulary);
      for (const float size : {1e-3F, 10.0F, 1e6F}) {
        std::vector<float> logits(kVocabulary);
        for (size_t i = 0; i < kVocabulary; ++i) logits[i] = size * (static_cast<float>(i) - 4);
        const int32_t token = sampler.sample(logits);
        EXPECT_GE(token, 0);
        EXPECT_LT(token, static_cast<int32_t>(kVocabulary));
      }
    }
  }
}

}  // namespace
}  // namespace restkv
