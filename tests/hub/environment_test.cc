// Where models are kept and where they come from.
#include "hub/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv::hub {
namespace {

using ::restkv::testing::refusal;
using ::testing::HasSubstr;

/// Sets variables for the time of a test.
class Environment : public ::testing::Test {
 protected:
  Environment() {
    for (const char* name :
         {"RESTKV_MODELS", "XDG_CACHE_HOME", "HOME", "HF_ENDPOINT", "HF_TOKEN"}) {
      const char* value = std::getenv(name);
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      unsetenv(name);
    }
  }
  ~Environment() override {
    for (const auto& [name, value] : before_) {
      if (value) {
        setenv(name.c_str(), value->c_str(), 1);
      } else {
        unsetenv(name.c_str());
      }
    }
  }
  static void set(const char* name, const char* value) { setenv(name, value, 1); }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(Environment, SaysWhereModelsAreKept) {
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { (void)models_folder(); }),
              HasSubstr("set RESTKV_MODELS"));
  set("HOME", "/home/ada");
  EXPECT_EQ(models_folder(), "/home/ada/.cache/restkv/models");
  set("XDG_CACHE_HOME", "relative/is/ignored");
  EXPECT_EQ(models_folder(), "/home/ada/.cache/restkv/models");
  set("XDG_CACHE_HOME", "/var/cache");
  EXPECT_EQ(models_folder(), "/var/cache/restkv/models");
  set("RESTKV_MODELS", "");
  EXPECT_EQ(models_folder(), "/var/cache/restkv/models");
  set("RESTKV_MODELS", "models");
  EXPECT_EQ(models_folder(), "models");
}

TEST_F(Environment, SaysWhereTheHubIs) {
  EXPECT_EQ(hub_endpoint(), "https://huggingface.co");
  set("HF_ENDPOINT", "");
  EXPECT_EQ(hub_endpoint(), "https://huggingface.co");
  set("HF_ENDPOINT", "http://127.0.0.1:8000/mirror//");
  EXPECT_EQ(hub_endpoint(), "http://127.0.0.1:8000/mirror");
  for (const char* wrong : {"huggingface.co", "file:///etc", "ftp://a", "https://a b"}) {
    set("HF_ENDPOINT", wrong);
    EXPECT_THAT(refusal(ErrorCode::kInput, [] { (void)hub_endpoint(); }),
                HasSubstr("expected an address like https://huggingface.co"));
  }
}

TEST_F(Environment, HasAToken) {
  EXPECT_EQ(hub_token(), "");
  set("HF_TOKEN", "hf_abc");
  EXPECT_EQ(hub_token(), "hf_abc");
  // A second line would become a header.
  for (const char* wrong : {"hf_abc\n", "hf_abc\r\nHost: x", "hf abc", "hf_\xc3\xa4"}) {
    set("HF_TOKEN", wrong);
    const std::string error = refusal(ErrorCode::kInput, [] { (void)hub_token(); });
    EXPECT_THAT(error, HasSubstr("HF_TOKEN"));
    EXPECT_EQ(error.find("abc"), std::string::npos) << "a secret is shown: " << error;
  }
}

}  // namespace
}  // namespace restkv::hub
