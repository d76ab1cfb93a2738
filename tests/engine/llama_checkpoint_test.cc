// The converter under the end-to-end golden test: models of any shape, and what it refuses.

#include "support/llama_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The rows of each head in the order of Hugging Face: first the first halves of all pairs.
std::vector<float> separate_pairs(const std::vector<float>& values, size_t cols, size_t dim) {
  std::vector<float> result(values.size());
  for (size_t row = 0; row < values.size() / cols; ++row) {
    const size_t in_head = row % dim;
    const size_t target = row - in_head + (in_head % 2) * (dim / 2) + in_head / 2;
    std::copy_n(&values[row * cols], cols, &result[target * cols]);
  }
  return result;
}

/// A random Llama, as a GGUF file and as a checkpoint.
class LlamaCheckpointTest : public ::testing::Test {
 protected:
  LlamaCheckpointTest() {
    model_.layers = 3;
    model_.width = 48;
    model_.query_heads = 6;
    model_.kv_heads = 3;
    model_.head_dim = 10;
    model_.ffn_width = 56;
    model_.vocabulary = 70;
    model_.context = 333;
    model_.norm_epsilon = 1e-6;
    model_.rope_base = 5000;
    config_ = {{"model_type", "llama"},
               {"hidden_act", "silu"},
               {"num_hidden_layers", 3},
               {"hidden_size", 48},
               {"num_attention_heads", 6},
               {"num_key_value_heads", 3},
               {"head_dim", 10},
               {"intermediate_size", 56},
               {"vocab_size", 70},
               {"max_position_embeddings", 333},
               {"rms_norm_eps", 1e-6},
               {"rope_theta", 5000.0},
               {"tie_word_embeddings", false}};
  }

  void write_model() {
    Json header;
    std::string data;
    model_.edit_tensor = [&](testing::TinyTensor& tensor) {
      const bool rotated = tensor.name.find("attn_q.") != std::string::npos ||
                           tensor.name.find("attn_k.") != std::string::npos;
      const auto values =
          rotated ? separate_pairs(tensor.values, tensor.cols, model_.head_dim) : tensor.values;
      const size_t begin = data.size();
      data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
      header[testing::checkpoint_name(tensor.name)] = {
          {"dtype", "F32"},
          {"shape", tensor.rows == 1 ? Json{tensor.cols} : Json{tensor.rows, tensor.cols}},
          {"data_offsets", {begin, data.size()}}};
      return true;
    };
    model_.write(gguf_);
    const std::string text = header.dump();
    const uint64_t size = text.size();
    std::ofstream(weights_, std::ios::binary)
        << std::string(reinterpret_cast<const char*>(&size), sizeof size) << text << data;
  }

  void convert() {
    std::ofstream(folder_.file("config.json")) << config_;
    testing::write_checkpoint_as_gguf(folder_.file("config.json"), weights_, converted_);
  }

  /// Why the conversion fails.
  std::string failure() {
    try {
      convert();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "it does not";
  }

  testing::TinyModel model_;
  Json config_;
  testing::TemporaryFolder folder_;
  std::string gguf_ = folder_.file("model.gguf");
  std::string weights_ = folder_.file("model.safetensors");
  std::string converted_ = folder_.file("converted.gguf");
};

TEST_F(LlamaCheckpointTest, TheShapeIsThatOfTheConfiguration) {
  write_model();
  convert();
  EXPECT_TRUE(bytes_of(converted_) == bytes_of(gguf_));

  // Another base, written as newer versions do.
  config_.erase("rope_theta");
  config_["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 777.0}};
  model_.rope_base = 777;
  write_model();
  convert();
  EXPECT_TRUE(bytes_of(converted_) == bytes_of(gguf_));

  // Tied, every query head with keys of its own, heads that fill the width.
  model_.tied = true;
  config_["tie_word_embeddings"] = true;
  model_.kv_heads = 6;
  config_.erase("num_key_value_heads");
  model_.head_dim = 8;
  config_["head_dim"] = nullptr;
  write_model();
  convert();
  EXPECT_TRUE(bytes_of(converted_) == bytes_of(gguf_));
}

TEST_F(LlamaCheckpointTest, ConfigurationsThatDoNotFitTheWeightsAreRefused) {
  write_model();
  const Json right = config_;
  const auto failure_with = [&](const char* key, const Json& value) {
    config_ = right;
    config_[key] = value;
    return failure();
  };
  const auto names_files = AllOf(HasSubstr("config.json"), HasSubstr("model.safetensors"));
  EXPECT_THAT(failure_with("num_hidden_layers", 2),
              AllOf(names_files, HasSubstr("model.layers.2."), HasSubstr("has no place")));
  EXPECT_THAT(failure_with("num_hidden_layers", 4),
              AllOf(names_files, HasSubstr("model.layers.3."), HasSubstr("is missing")));
  EXPECT_THAT(failure_with("tie_word_embeddings", true),
              AllOf(names_files, HasSubstr("lm_head.weight has no place")));
  EXPECT_THAT(failure_with("intermediate_size", 57),
              AllOf(names_files, HasSubstr("mlp.gate_proj")));
  EXPECT_THAT(failure_with("vocab_size", 71),
              AllOf(names_files, HasSubstr("model.embed_tokens.weight is [70, 48], not [71, 48]")));
  EXPECT_THAT(failure_with("num_key_value_heads", 2), HasSubstr("self_attn.k_proj"));
  EXPECT_THAT(failure_with("head_dim", 12), HasSubstr("self_attn.q_proj"));
  EXPECT_THAT(failure_with("hidden_size", 50), HasSubstr("model.embed_tokens.weight"));
  EXPECT_THAT(failure_with("rope_theta", nullptr), HasSubstr("no rope_theta"));
  EXPECT_THAT(failure_with("model_type", "qwen2"), HasSubstr("model_type is \"qwen2\""));
  EXPECT_THAT(failure_with("attention_bias", true), HasSubstr("attention_bias is true"));
  EXPECT_THAT(failure_with("rope_scaling", {{"rope_type", "llama3"}}), HasSubstr("rope_scaling"));
  EXPECT_THAT(failure_with("rope_parameters", {{"rope_type", "llama3"}, {"rope_theta", 5000.0}}),
              HasSubstr("rope_parameters"));
}

}  // namespace
}  // namespace restkv
