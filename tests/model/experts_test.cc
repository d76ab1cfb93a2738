// Files with mixtures of experts: what is refused, and what experts that are not chosen may hold.

#include <gguf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/threads.h"
#include "engine/streams.h"
#include "linear/linear_precision.h"
#include "model/parity.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::refusal;
using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::TinyModel;
using ::restkv::testing::TinyTensor;
using ::testing::HasSubstr;

TinyModel tiny(const std::string& architecture = "qwen3moe") {
  TinyModel model;
  model.architecture = architecture;
  model.experts = 6;
  model.expert_width = architecture == "llama" ? 0 : 32;
  return model;
}

/// Changes the values of the tensors whose names contain `part`.
std::function<bool(TinyTensor&)> changed(const std::string& part,
                                         const std::function<void(TinyTensor&)>& change) {
  return [=](TinyTensor& tensor) {
    if (tensor.name.find(part) != std::string::npos) change(tensor);
    return true;
  };
}
std::function<bool(TinyTensor&)> without(const std::string& name) {
  return [=](TinyTensor& tensor) { return tensor.name != name; };
}

class ExpertsTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string refused(ErrorCode code, const TinyModel& model) const {
    model.write(path_);
    return refusal(code, [&] { const Model loaded(path_); });
  }
  [[nodiscard]] std::string refused_with(ErrorCode code, TinyModel model, const std::string& key,
                                         uint32_t value) const {
    model.edit_metadata = [&](gguf_context* gguf) {
      gguf_set_val_u32(gguf, (model.architecture + key).c_str(), value);
    };
    return refused(code, model);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("model.gguf");
};

TEST_F(ExpertsTest, AreInTheConfiguration) {
  TinyModel model = tiny("qwen2moe");
  model.shared_expert_width = 48;
  model.write(path_);
  const Model loaded(path_);
  const ModelConfig& c = loaded.config();
  EXPECT_EQ(c.experts.count, 6U);
  EXPECT_EQ(c.experts.used, 2U);
  EXPECT_EQ(c.experts.width, 32U);
  EXPECT_EQ(c.experts.shared_width, 48U);
  EXPECT_FALSE(c.experts.normalised);
  EXPECT_EQ(c.ffn_width, 48U);
  EXPECT_EQ(c.weights, model.size().weights);
  EXPECT_EQ(c.weights - c.active_weights, 2U * 3 * 4 * 32 * 64);  // layers, matrices, experts
  EXPECT_THAT(loaded.description(), HasSubstr("2 of 6 experts"));
}

TEST_F(ExpertsTest, CountsThatLieAreRefused) {
  const auto refuse = [&](const std::string& key, uint32_t value) {
    return refused_with(ErrorCode::kInput, tiny(), key, value);
  };
  EXPECT_THAT(
      refuse(".expert_count", 8),
      HasSubstr("tensor 'blk.0.ffn_gate_inp.weight' is 64 x 6 x 1 x 1; its metadata ask for "
                "64 x 8"));
  EXPECT_THAT(refuse(".expert_count", 0), HasSubstr("'qwen3moe.expert_count' is 0; expected"));
  EXPECT_THAT(refuse(".expert_count", 100000), HasSubstr("is 100000; expected 0 to 4096"));
  EXPECT_THAT(refuse(".expert_used_count", 0), HasSubstr("is 0; expected 1 to 6, which is "
                                                         "'qwen3moe.expert_count'"));
  EXPECT_THAT(refuse(".expert_used_count", 7), HasSubstr("is 7; expected 1 to 6"));
  EXPECT_THAT(
      refuse(".expert_feed_forward_length", 64),
      HasSubstr("'blk.0.ffn_gate_exps.weight' is 64 x 32 x 6 x 1; its metadata ask for 64 x "
                "64 x 6"));
  TinyModel dense = tiny();
  dense.architecture = "llama";
  dense.experts = 0;
  EXPECT_THAT(refused_with(ErrorCode::kInput, dense, ".expert_used_count", 2),
              HasSubstr("'llama.expert_used_count' is 2; expected 0 to 0"));
  EXPECT_THAT(refused_with(ErrorCode::kInput, dense, ".expert_count", 6),
              HasSubstr("'llama.expert_used_count' is 0; expected 1 to 6"));
}

TEST_F(ExpertsTest, TensorsThatAreMissingAreNamed) {
  for (const char* name : {"blk.1.ffn_gate_inp.weight", "blk.0.ffn_gate_exps.weight",
                           "blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"}) {
    TinyModel model = tiny();
    model.edit_tensor = without(name);
    EXPECT_THAT(refused(ErrorCode::kInput, model),
                HasSubstr(std::string("has no tensor '") + name + "'"));
  }
  TinyModel model = tiny("qwen2moe");
  model.shared_expert_width = 48;
  model.edit_tensor = without("blk.0.ffn_gate_inp_shexp.weight");
  EXPECT_THAT(refused(ErrorCode::kInput, model), HasSubstr("ffn_gate_inp_shexp"));
}

TEST_F(ExpertsTest, RoutersWithNanAreRefused) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    TinyModel model = tiny();
    model.edit_tensor = changed("blk.1.ffn_gate_inp", [=](TinyTensor& t) { t.values[77] = bad; });
    EXPECT_THAT(refused(ErrorCode::kInput, model),
                HasSubstr("tensor 'blk.1.ffn_gate_inp.weight' holds NaN or infinity"));
  }
}

TEST_F(ExpertsTest, FamiliesKeepToTheirOwnMixture) {
  TinyModel dense = tiny();
  dense.architecture = "qwen3";
  dense.experts = 0;
  EXPECT_THAT(refused_with(ErrorCode::kUnsupported, dense, ".expert_count", 6),
              HasSubstr("mixtures of experts in models of this family cannot be computed"));
  EXPECT_THAT(refused_with(ErrorCode::kUnsupported, tiny(), ".expert_weights_norm", 0),
              HasSubstr("is false; expected true"));
  EXPECT_THAT(refused_with(ErrorCode::kUnsupported, tiny(), ".expert_gating_func", 2),
              HasSubstr("not chosen by a softmax"));
  EXPECT_THAT(refused_with(ErrorCode::kUnsupported, tiny(), ".leading_dense_block_count", 1),
              HasSubstr("layers with and without experts"));
  for (const char* key : {".logit_scale", ".residual_scale", ".embedding_scale"}) {
    EXPECT_THAT(refused_with(ErrorCode::kUnsupported, tiny(), key, 2), HasSubstr("scaled"));
  }
}

TEST_F(ExpertsTest, FilesWithATensorForEachExpertAreRefused) {
  TinyModel model = tiny("llama");
  model.edit_tensor = [](TinyTensor& tensor) {
    const size_t at = tensor.name.find("_exps");
    if (at == std::string::npos) return true;
    tensor.name.replace(at, 5, ".0");
    tensor.rows /= tensor.matrices;
    tensor.matrices = 1;
    tensor.values.resize(tensor.rows * tensor.cols);
    return true;
  };
  EXPECT_THAT(refused(ErrorCode::kUnsupported, model), HasSubstr("a tensor for each expert"));
}

/// All experts are as likely as each other: the first ones are chosen, by libllama, too. Nothing
/// reads the others.
TEST_F(ExpertsTest, OfEqualOnesTheFirstAreChosenAndNoOtherIsRead) {
  testing::ParityCase c = testing::parity_case("tiny-mixtral");
  c.name = "mixtral, ties";
  const size_t used = c.model.experts_used;
  c.model.edit_tensor = [=](TinyTensor& tensor) {
    if (tensor.name.find("ffn_gate_inp") != std::string::npos) {
      std::fill(tensor.values.begin(), tensor.values.end(), 0.0F);
    } else if (tensor.matrices > 1) {
      const size_t size = tensor.values.size() / tensor.matrices;
      std::fill(tensor.values.begin() + static_cast<std::ptrdiff_t>(size * used),
                tensor.values.end(), std::numeric_limits<float>::quiet_NaN());
    }
    return true;
  };
  testing::check_float32(c);
}

TEST_F(ExpertsTest, ThreadsAndOtherSequencesDoNotChangeABit) {
  const int threads = num_threads();
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0}) {
    TinyModel model = tiny();
    model.type = type;
    model.write(path_);
    const bool bytes = type == GGML_TYPE_Q8_0 && supports(LinearPrecision::kInt8);
    ModelOptions options;
    if (bytes) options.linear = LinearPrecision::kInt8;
    const Model loaded(path_, options);
    std::vector<std::vector<float>> results;
    for (const int count : {1, 3}) {
      set_num_threads(count);
      const Engine engine(loaded);
      std::vector<Session> sessions;
      for (size_t i = 0; i < 3; ++i) {
        results.push_back(copy(sessions.emplace_back(engine, SessionOptions{})
                                   .append(tokens_of(90 + 300 * i, i + 1))));
      }
      std::vector<Session*> together;
      for (Session& session : sessions) together.push_back(&session);
      const std::vector<int32_t> tokens{5, 77, 200};
      if (count == 1) {
        for (size_t i = 0; i < 3; ++i) results.push_back(copy(sessions[i].append(tokens[i])));
      } else {
        Session::append_together(together, tokens);
        for (const Session& session : sessions) results.push_back(copy(session.logits()));
      }
    }
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(results[i], results[i + 6]) << i;
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace restkv
