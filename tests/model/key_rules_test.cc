// The table of metadata keys beside libllama's own keys, the documentation and files that break it.

#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "model/metadata.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::TinyModel;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(bytes.empty()) << path;
  return bytes;
}

/// The metadata keys among the strings of the libllama that this test is linked with; the ones
/// behind an architecture's name begin with a dot.
std::set<std::string> keys_of_libllama() {
  Dl_info library{};
  EXPECT_NE(dladdr(reinterpret_cast<const void*>(&llama_backend_init), &library), 0);
  const std::string bytes = read_file(library.dli_fname);
  const std::regex key("(%s|general|tokenizer|split|adapter|xielu)(\\.[a-z0-9_]+)+");
  std::set<std::string> keys;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\0', begin), bytes.size());
    if (end - begin >= 5 && end - begin < 100) {
      const std::string text = bytes.substr(begin, end - begin);
      if (std::regex_match(text, key)) keys.insert(text[0] == '%' ? text.substr(2) : text);
    }
    begin = end + 1;
  }
  return keys;
}

TEST(KeyRules, KnowEveryKeyOfLibllamaAndNoOther) {
  const std::set<std::string> keys = keys_of_libllama();
  ASSERT_GT(keys.size(), 200U);
  std::set<std::string_view> used;
  for (const std::string& key : keys) {
    const KeyRule* rule = find_key_rule(key);
    ASSERT_NE(rule, nullptr) << key << ": decide what becomes of it and add it to key_rules.cc";
    used.insert(rule->key);
  }
  std::set<std::string_view> all;
  for (const KeyRule& rule : key_rules()) {
    EXPECT_TRUE(used.contains(rule.key)) << rule.key << " is no key of libllama's";
    EXPECT_TRUE(all.insert(rule.key).second) << rule.key << " has two rules";
  }
}

TEST(KeyRules, TheClosestGroupCounts) {
  EXPECT_EQ(find_key_rule("general.author")->key, "general.*");
  EXPECT_EQ(find_key_rule("general.sampling.temp")->key, "general.sampling.*");
  EXPECT_EQ(find_key_rule(".attention.scale")->key, ".attention.scale");
  EXPECT_EQ(find_key_rule(".attention.indexer.top_k")->key, ".attention.*");
  EXPECT_EQ(find_key_rule(".vision.block_count"), nullptr);
}

// ---- docs/parity.md
// ------------------------------------------------------------------------------

std::string limits_of(const KeyRule& rule) {
  if (rule.use == KeyUse::kFixed) {
    return rule.least == rule.most ? fmt::format("{}", rule.least)
                                   : fmt::format("{} or {}", rule.least, rule.most);
  }
  if (rule.least == rule.most) return "";
  return fmt::format("{} to {}{}", rule.least, rule.most, rule.or_zero ? ", or 0" : "");
}

std::string rows_of(KeyUse use) {
  std::string rows;
  for (const KeyRule& rule : key_rules()) {
    if (rule.use != use) continue;
    rows += fmt::format("| `{}` | {} | {} |\n", rule.key, limits_of(rule), rule.note);
  }
  return rows;
}

/// One row for all keys that are ignored for the same reason.
std::string ignored_rows() {
  std::vector<std::string_view> notes;
  for (const KeyRule& rule : key_rules()) {
    const bool known = std::find(notes.begin(), notes.end(), rule.note) != notes.end();
    if (rule.use == KeyUse::kIgnored && !known) notes.push_back(rule.note);
  }
  std::string rows;
  for (const std::string_view note : notes) {
    std::string keys;
    for (const KeyRule& rule : key_rules()) {
      if (rule.use != KeyUse::kIgnored || rule.note != note) continue;
      keys += fmt::format("{}`{}`", keys.empty() ? "" : ", ", rule.key);
    }
    rows += fmt::format("| {} | {} |\n", keys, note);
  }
  return rows;
}

TEST(KeyRules, AreDocumented) {
  const std::string table = "| read | limits | |\n|---|---|---|\n" + rows_of(KeyUse::kRead) +
                            "\n| refused with other values | | which ask for |\n|---|---|---|\n" +
                            rows_of(KeyUse::kFixed) + "\n| ignored | |\n|---|---|\n" +
                            ignored_rows();
  const std::string page = read_file(RESTKV_TEST_DATA_DIR "/../../docs/parity.md");
  EXPECT_NE(page.find(table), std::string::npos) << "docs/parity.md should have these tables:\n\n"
                                                 << table;
}

// ---- Files that break a rule
// ---------------------------------------------------------------------

class BrokenRules : public ::testing::Test {
 protected:
  using Edit = std::function<void(gguf_context*, const std::string& key)>;

  /// The message of the error that a tiny `llama` ends with, one of whose keys is changed.
  std::optional<std::string> error_of(std::string_view suffix, const Edit& edit) const {
    TinyModel model = testing::smallest_model();
    model.edit_metadata = [&](gguf_context* gguf) { edit(gguf, "llama" + std::string(suffix)); };
    model.write(path_);
    try {
      const Model loaded(path_);
      return std::nullopt;
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == ErrorCode::kInput || e.code() == ErrorCode::kUnsupported) << e.what();
      return e.what();
    }
  }
  std::optional<std::string> error_with(std::string_view suffix, double value) const {
    return error_of(suffix, [&](gguf_context* gguf, const std::string& key) {
      gguf_set_val_f64(gguf, key.c_str(), value);
    });
  }
  void expect_refused(std::string_view suffix, double value) const {
    const auto error = error_with(suffix, value);
    ASSERT_TRUE(error) << suffix << " may be " << value;
    for (const std::string& part : {path_, "'llama" + std::string(suffix) + "' is "}) {
      EXPECT_NE(error->find(part), std::string::npos) << *error;
    }
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("model.gguf");
};

TEST_F(BrokenRules, NumbersOutsideTheLimitsAreRefused) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  size_t checked = 0;
  for (const KeyRule& rule : key_rules()) {
    const bool number = rule.key.starts_with('.') && rule.least < rule.most;
    if (rule.use != KeyUse::kRead || !number) continue;
    for (const double value : {std::nextafter(rule.least, -kInfinity),
                               std::nextafter(rule.most, kInfinity), std::nan(""), kInfinity}) {
      expect_refused(rule.key, value);
    }
    ++checked;
  }
  EXPECT_GT(checked, 25U);
}

TEST_F(BrokenRules, WhatIsNotComputedIsRefused) {
  size_t checked = 0;
  for (const KeyRule& rule : key_rules()) {
    if (rule.use != KeyUse::kFixed) continue;
    expect_refused(rule.key, 2);
    expect_refused(rule.key, std::nan(""));
    for (const double value : {rule.least, rule.most}) {
      EXPECT_EQ(error_with(rule.key, value), std::nullopt) << rule.key << " " << value;
    }
    ++checked;
  }
  EXPECT_GT(checked, 15U);
}

TEST_F(BrokenRules, MessagesSayWhatWasExpected) {
  const auto expect = [&](std::string_view suffix, float value, const std::string& part) {
    const auto error = error_of(suffix, [&](gguf_context* gguf, const std::string& key) {
      gguf_set_val_f32(gguf, key.c_str(), value);
    });
    ASSERT_TRUE(error) << suffix;
    EXPECT_NE(error->find(part), std::string::npos) << *error;
  };
  expect(".rope.freq_base", 1e-45F,
         "is 1e-45; expected 10 to 1000000000000. Convert the model again");
  expect(".attention.scale", 1e-45F, "is 1e-45; expected 1e-05 to 100, or 0 for none");
  expect(".rope.scaling.factor", 3e38F, "is 3e+38; expected 1 to 10000, or 0 for none");
  expect(".rope.scale_linear", 0.25F, "is 0.25; expected 1 to 10000");
  expect(".attn_logit_softcapping", 1e-45F, "is 1e-45; expected 1 to 100000");
  expect(".final_logit_softcapping", 1e30F, "is 1e+30; expected 1 to 100000");
  expect(".attention.layer_norm_rms_epsilon", 0, "is 0; expected 1e-12 to 0.1");
  expect(".logit_scale", 0.5F, "is 0.5; expected 0 or 1: scaled logits cannot be computed");
  expect(".rope.scaling.yarn_ext_factor", 0.5F, "is 0.5; expected -1 or 1: a part of YaRN cannot");
  expect(".rope.scaling.yarn_attn_factor", 1.5F, "is 1.5; expected 1. Convert");
  expect(".attention.key_length_swa", 16, "is 16; expected 8, as in the layers without windows");
}

TEST_F(BrokenRules, ListsMustBeAlikeAndAsLongAsThereAreLayers) {
  const auto error_with_list = [&](std::string_view suffix, std::vector<uint32_t> values) {
    return error_of(suffix, [&](gguf_context* gguf, const std::string& key) {
      gguf_set_arr_data(gguf, key.c_str(), GGUF_TYPE_UINT32, values.data(), values.size());
    });
  };
  for (const char* suffix :
       {".attention.head_count", ".attention.head_count_kv", ".feed_forward_length"}) {
    const auto error = error_with_list(suffix, {4, 4});
    ASSERT_TRUE(error) << suffix;
    EXPECT_NE(error->find("has 2 entries for 1 layers"), std::string::npos) << *error;
  }
  EXPECT_EQ(error_with_list(".attention.head_count_kv", {2}), std::nullopt);
  EXPECT_NE(error_with_list(".block_count", {1}), std::nullopt);
  EXPECT_NE(error_with_list(".attention.causal", {1, 0}), std::nullopt);
}

TEST_F(BrokenRules, TypesAreThoseOfTheKey) {
  const auto accepts = [&](std::string_view suffix, const auto& set) {
    return error_of(suffix, set) == std::nullopt;
  };
  // libllama reads 32 bits without a sign and refuses other integers: any of them will do here.
  EXPECT_TRUE(accepts(".block_count", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_u16(gguf, key.c_str(), 1);
  }));
  EXPECT_TRUE(accepts(".block_count", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_i64(gguf, key.c_str(), 1);
  }));
  EXPECT_FALSE(accepts(".block_count", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_bool(gguf, key.c_str(), true);
  }));
  EXPECT_FALSE(accepts(".rope.freq_base", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_str(gguf, key.c_str(), "10000");
  }));
  EXPECT_FALSE(accepts(".rope.scaling.type", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_u32(gguf, key.c_str(), 1);
  }));
  EXPECT_TRUE(accepts(".attention.causal", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_bool(gguf, key.c_str(), true);
  }));
  EXPECT_FALSE(accepts(".attention.causal", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_bool(gguf, key.c_str(), false);
  }));
  EXPECT_FALSE(accepts(".attention.causal", [](gguf_context* gguf, const std::string& key) {
    gguf_set_val_str(gguf, key.c_str(), "true");
  }));
}

}  // namespace
}  // namespace restkv
