// How the user's RoPE scaling meets the file's own.

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "restkv/error.h"
#include "restkv/model.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::TinyModel;

class StretchedContext : public ::testing::Test {
 protected:
  using Edit = std::function<void(TinyModel&)>;

  static TinyModel tiny(const std::string& architecture) {
    TinyModel model;
    model.architecture = architecture;
    model.context = 1000;
    model.vocabulary = 16;
    return model;
  }
  static Edit with_number(const char* key, float value) {
    return [=](TinyModel& model) {
      model.edit_metadata = [=](gguf_context* gguf) { gguf_set_val_f32(gguf, key, value); };
    };
  }
  ModelConfig config(const std::string& architecture, const Edit& edit,
                     const ModelOptions& options = {}) const {
    TinyModel model = tiny(architecture);
    if (edit) edit(model);
    model.write(path_);
    return Model(path_, options).config();
  }
  /// What the model says to `options`.
  std::string refusal(const std::string& architecture, const Edit& edit,
                      const ModelOptions& options = {.rope_scaling = "linear",
                                                     .rope_factor = 2}) const {
    return testing::refusal_if_any(ErrorCode::kInvalidArgument,
                                   [&] { config(architecture, edit, options); });
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("model.gguf");
};

void expect_equal(const RopeConfig& a, const RopeConfig& b) {
  EXPECT_EQ(a.dim, b.dim);
  EXPECT_EQ(a.base, b.base);
  EXPECT_EQ(a.scaling, b.scaling);
  EXPECT_EQ(a.factor, b.factor);
  EXPECT_EQ(a.original_context, b.original_context);
  EXPECT_EQ(a.beta_fast, b.beta_fast);
  EXPECT_EQ(a.beta_slow, b.beta_slow);
  EXPECT_EQ(a.magnitude, b.magnitude);
}

TEST_F(StretchedContext, IsWhatAFileSaysThatIsStretchedItself) {
  const ModelConfig linear = config("llama", {}, {.rope_scaling = "linear", .rope_factor = 4});
  EXPECT_EQ(linear.context_length, 4000U);
  expect_equal(linear.rope, config("llama", with_number("llama.rope.scaling.factor", 4)).rope);
  expect_equal(linear.rope, config("llama", with_number("llama.rope.scale_linear", 4)).rope);
  expect_equal(config("qwen2", {}, {.rope_scaling = "yarn", .rope_factor = 4}).rope,
               config("qwen2", [](TinyModel& model) {
                 model.rope_scaling = "yarn";
                 model.rope_factor = 4;
                 model.rope_original_context = 1000;
               }).rope);
}

TEST_F(StretchedContext, IsRefusedWhereTheFileStretchesIt) {
  const std::string part = "stretches its context already";
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    EXPECT_NE(refusal("llama", with_number(key, 4)).find(part), std::string::npos) << key;
  }
  for (const char* scaling : {"yarn", "longrope"}) {
    const auto stretch = [&](TinyModel& model) {
      model.rope_scaling = scaling;
      model.rope_original_context = 200;
    };
    EXPECT_NE(refusal("phi3", stretch).find(part), std::string::npos) << scaling;
  }
  // Frequency factors belong to the model as it was trained, whatever its context.
  EXPECT_EQ(refusal("llama", [](TinyModel& model) { model.rope_stretch = RopeStretch(); }), "");
}

TEST_F(StretchedContext, LeavesWindowsWithABaseOfTheirOwnAlone) {
  const ModelOptions options{.rope_scaling = "linear", .rope_factor = 4};
  EXPECT_EQ(config("gemma3", {}, options).window_rope.factor, 1);
  EXPECT_EQ(config("gemma2", {}, options).window_rope.factor, 4);
  const ModelConfig own = config("gemma2", with_number("gemma2.rope.freq_base_swa", 300), options);
  EXPECT_EQ(own.window_rope.factor, 1);
  EXPECT_EQ(own.window_rope.base, 300);
  EXPECT_EQ(own.rope.factor, 4);
}

}  // namespace
}  // namespace restkv
