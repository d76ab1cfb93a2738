// Options that a method declares for itself.

#include "compress/own_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <class Call>
std::string refusal(Call&& call) {
  return testing::refusal_if_any(ErrorCode::kInvalidArgument, std::forward<Call>(call));
}

TEST(OwnOptions, AreOptionsByNameLikeSharedOnes) {
  for (const Method& method : methods()) {
    for (const OwnOption& own : method.own_options) {
      const CompressionOption& row = find_compression_option(own.name);
      EXPECT_FALSE(row.shared);
      EXPECT_THAT(method.options, ::testing::Contains(own.name));
      CompressionOptions options = default_options(method.name);
      EXPECT_TRUE(belongs_to(row, options));
      const std::string initial = row.get(options);
      row.set(options, initial);
      EXPECT_EQ(row.get(options), initial) << own.name;
      EXPECT_EQ(options.own.at(std::string(own.name)), own.initial);
      if (!method.needs_statistics) {
        EXPECT_EQ(refusal([&] { validate(options); }), "");
      }
    }
  }
}

TEST(OwnOptions, HaveEachOfTheirWords) {
  CompressionOptions options = default_options("cur");
  for (size_t i = 0; const std::string word : {"key", "value", "mean", "product"}) {
    find_compression_option("leverage").set(options, word);
    EXPECT_EQ(own_word(options, "leverage"), i++);
  }
}

TEST(OwnOptions, AreRefusedWhereTheyDoNotSuit) {
  CompressionOptions options = default_options("lagkv");
  const auto set = [&](const char* name, const char* value) {
    return refusal([&] { find_compression_option(name).set(options, value); });
  };
  EXPECT_THAT(set("lag", "many"), AllOf(HasSubstr("lag is \"many\""), HasSubstr("whole number")));
  EXPECT_THAT(set("lag", "1e3"), HasSubstr("lag is \"1e3\""));
  EXPECT_THAT(set("cross_scoring", "yes"), HasSubstr("true or false"));
  EXPECT_THAT(set("leverage", "key"), AllOf(HasSubstr("lagkv"), HasSubstr("lag, cross_scoring")));
  options = default_options("cur");
  EXPECT_THAT(set("leverage", "keys"), HasSubstr("one of key, value, mean, product"));
  EXPECT_TRUE(options.own.empty()) << "a refused value changes nothing";

  // What C++ writes is looked at by `validate`.
  const auto given = [](const char* method, const char* name, OptionValue value) {
    CompressionOptions wrong = default_options(method);
    wrong.own[name] = std::move(value);
    return refusal([&] { validate(wrong); });
  };
  EXPECT_THAT(given("lagkv", "lag", 0.5), HasSubstr("lag is \"0.5\""));
  EXPECT_THAT(given("lagkv", "lag", true), HasSubstr("lag is \"true\""));
  EXPECT_THAT(given("lagkv", "lags", 3), HasSubstr("no option lags"));
  EXPECT_THAT(given("snapkv", "lag", 3), AllOf(HasSubstr("snapkv"), HasSubstr("none")));
  EXPECT_THAT(given("cur", "leverage", "both"), HasSubstr("one of key"));
  EXPECT_EQ(given("restkv", "alpha", 1), "") << "a whole number is a real one";
}

TEST(OwnOptions, OfMethodsFromOutsideAreLookedAt) {
  const auto registered = [](std::vector<OwnOption> own) {
    Method method = find_method("knorm");
    method.name = "from-outside";
    method.options.clear();
    method.own_options = std::move(own);
    return refusal([&] { register_method(method); });
  };
  const size_t methods_before = methods().size();
  const size_t options_before = compression_options().size();
  EXPECT_THAT(registered({{"", "N", "", 1}}), HasSubstr("letters, digits"));
  EXPECT_THAT(registered({{"x=1:y", "N", "", 1}}), HasSubstr("letters, digits"));
  EXPECT_THAT(registered({{"preset", "N", "", 1}}), HasSubstr("\"preset\""));
  EXPECT_THAT(registered({{"method", "N", "", 1}}), HasSubstr("\"method\""));
  EXPECT_THAT(registered({{"x", "N", "", 1}, {"x", "N", "", 2}}), HasSubstr("again"));
  EXPECT_THAT(registered({{"x", "a|b", "", "c"}}), HasSubstr("one of a, b"));
  EXPECT_THAT(registered({{"x", "X", "", std::nan("")}}), HasSubstr("initial value is \"nan\""));
  EXPECT_THAT(registered({{"budget", "N", "", 1}}), HasSubstr("one already"));
  EXPECT_THAT(registered({{"lag", "a|b", "", "a"}}), HasSubstr("one already"));
  EXPECT_THAT(registered(std::vector<OwnOption>(1, {"alpha", "N", "", 1})), HasSubstr("takes X"));
  const auto changed = [](const auto& change) {
    Method method = find_method("knorm");
    method.name = "from-outside";
    method.options.clear();
    method.own_options = {{"x", "N", "", 1}};
    change(method);
    return refusal([&] { register_method(method); });
  };
  for (const char* name : {"", "a:b", "a b", "a=b"}) {
    EXPECT_THAT(changed([&](Method& m) { m.name = name; }), HasSubstr("letters, digits")) << name;
  }
  const auto never = [](const CompressionOptions&) { return false; };
  for (const OptionCondition& wrong :
       {OptionCondition{"y", "window", never}, {"x", "y", never}, {"x", "window", nullptr}}) {
    EXPECT_NE(changed([&](Method& m) { m.conditions = {wrong}; }), "");
  }
  EXPECT_NE(changed([](Method& m) { m.defaults.own["y"] = 1; }), "");
  EXPECT_NE(changed([](Method& m) { (m.paper_defaults = m.defaults)->own["x"] = "one"; }), "");
  EXPECT_EQ(methods().size(), methods_before);
  EXPECT_EQ(compression_options().size(), options_before);
}

TEST(OwnOptions, ComeFromTextWithTheirMethod) {
  const GivenCompression given = parse_compression("lagkv:lag=9:cross_scoring=true:sinks=2");
  EXPECT_EQ(own_whole(given.options, "lag"), 9);
  EXPECT_TRUE(own_switch(given.options, "cross_scoring"));
  EXPECT_EQ(given.options.sinks, 2);
  EXPECT_TRUE(given.notices.empty());
  EXPECT_THAT(refusal([] { (void)parse_compression("snapkv:lag=9"); }),
              HasSubstr("lag has no effect on method snapkv"));
  EXPECT_THAT(parse_compression("restkv:indicator=attention:alpha=0.5").notices,
              ::testing::ElementsAre("alpha has no effect beside indicator attention"));
  EXPECT_EQ(parse_compression("restkv:preset=paper").options.kernel, 5);
  EXPECT_THAT(parse_compression("full:preset=paper").notices,
              ::testing::ElementsAre(HasSubstr("preset has no effect on method full")));
}

}  // namespace
}  // namespace restkv
