// The forward pass of every family against libllama on the same file, in every kind of weights.
//
//   model_test --gtest_filter='*Parity/*' | grep '^|'
//
// prints what was measured as the rows of a table: name, type, and, for the prompt and for
// decoding, the largest difference of a logit (float32), or the mean KL divergence of restkv and
// that of an exact computation (other types). docs/parity.md shows them.

#include "model/parity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/file.h"
#include "make_model/presets.h"
#include "support/random_blocks.h"
#include "support/raw_gguf.h"

namespace restkv {
namespace {

using ::restkv::testing::check_float32;
using ::restkv::testing::compare;
using ::restkv::testing::exact_libllama_logits;
using ::restkv::testing::is_slow_to_make;
using ::restkv::testing::libllama_logits;
using ::restkv::testing::Logits;
using ::restkv::testing::Parity;
using ::restkv::testing::parity_case;
using ::restkv::testing::parity_test_name;
using ::restkv::testing::parity_tokens;
using ::restkv::testing::ParityCase;
using ::restkv::testing::ParityFiles;
using ::restkv::testing::random_blocks;
using ::restkv::testing::restkv_logits;
using ::restkv::testing::TemporaryFolder;

/// The same model with every matrix rounded to `type` and stored as float32: libllama computes
/// exactly with it.
RandomModel dequantised(RandomModel model) {
  const ggml_type type = model.type;
  model.type = GGML_TYPE_F32;
  model.edit_tensor = [type](RandomTensor& tensor) {
    // Norms, biases, factors and routers.
    if (tensor.rows == 1 || tensor.name.ends_with(".bias") ||
        tensor.name.find("ffn_gate_inp") != std::string::npos) {
      return true;
    }
    const auto cols = static_cast<int64_t>(tensor.cols);
    std::vector<char> row(ggml_row_size(type, cols));
    // As RandomModel::write: all columns matter alike to types that ask which do.
    const std::vector<float> importance(ggml_quantize_requires_imatrix(type) ? tensor.cols : 0,
                                        1.0F);
    for (size_t r = 0; r < tensor.rows; ++r) {
      float* values = tensor.values.data() + r * tensor.cols;
      ggml_quantize_chunk(type, values, row.data(), 0, 1, cols,
                          importance.empty() ? nullptr : importance.data());
      ggml_get_type_traits(type)->to_float(row.data(), values, cols);
    }
    return true;
  };
  return model;
}

void check_quantised(const ParityCase& c) {
  const TemporaryFolder folder;
  const TemporaryFolder exact_folder;
  const std::vector<int32_t> tokens = parity_tokens();
  const ParityFiles files(c, folder);
  const ParityFiles exact_files({c.name, dequantised(c.model), c.write_for_libllama}, exact_folder);
  const Logits theirs = libllama_logits(files.theirs, tokens);
  const Parity exact = compare(theirs, exact_libllama_logits(exact_files.theirs, tokens));
  const Parity ours = compare(theirs, restkv_logits(files.ours, tokens));
  std::printf("| %s | %s | %.1e | %.1e | %.1e | %.1e |\n", c.name.c_str(),
              ggml_type_name(c.model.type), ours.prompt.mean_kl(), ours.decoding.mean_kl(),
              exact.prompt.mean_kl(), exact.decoding.mean_kl());
  EXPECT_LE(ours.prompt.mean_kl(), 0.01);
  EXPECT_LE(ours.all_kl(), 1.5 * exact.all_kl());
  // Decoding rounds activations as libllama does, but other activations: its prompt was computed
  // with rounding, too. Two independent errors are twice as far apart as one is from none.
  if (c.model.experts == 0) {
    EXPECT_LE(ours.decoding.mean_kl(), 0.01);
    EXPECT_LE(ours.decoding.mean_kl(), 2.0 * exact.decoding.mean_kl());
  } else {
    // Where two experts are nearly as likely, any rounding may choose the other one. The mean of 50
    // tokens is that of the few for which it does.
    EXPECT_LE(ours.decoding.mean_kl(), 0.03);
    EXPECT_LE(ours.decoding.median_kl(), 0.01);
    EXPECT_LE(ours.decoding.median_kl(), 2.0 * exact.decoding.median_kl());
  }
}

// --- Every family in every kind of weights -------------------------------------------------------

std::vector<std::string> tiny_presets() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) {
    if (preset.name.starts_with("tiny-")) names.emplace_back(preset.name);
  }
  return names;
}

class FamilyParity : public ::testing::TestWithParam<std::tuple<std::string, ggml_type>> {};

TEST_P(FamilyParity, EqualsLibllama) {
  ParityCase c = parity_case(std::get<0>(GetParam()));
  c.model.type = std::get<1>(GetParam());
  if (c.model.type == GGML_TYPE_F32) {
    check_float32(c);
  } else {
    check_quantised(c);
  }
}

INSTANTIATE_TEST_SUITE_P(Parity, FamilyParity,
                         ::testing::Combine(::testing::ValuesIn(tiny_presets()),
                                            ::testing::Values(GGML_TYPE_F32, GGML_TYPE_F16,
                                                              GGML_TYPE_Q4_0, GGML_TYPE_Q4_K,
                                                              GGML_TYPE_Q6_K, GGML_TYPE_Q8_0)),
                         [](const auto& test) {
                           return parity_test_name(std::get<0>(test.param).substr(5) + "_" +
                                                   ggml_type_name(std::get<1>(test.param)));
                         });

/// All that files may hold besides: through ggml's dot products, or packed.
std::vector<ggml_type> other_types() {
  std::vector<ggml_type> types = weight_types();
  std::erase_if(types, [](ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_Q4_0 ||
           type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q6_K || type == GGML_TYPE_Q8_0;
  });
  return types;
}

/// Writes the float32 model at `path` once more, with random blocks of `type` in place of its
/// matrices, of the same deviations.
void write_random_blocks(const std::string& path, ggml_type type, const std::string& to) {
  testing::RawGguf gguf = testing::RawGguf::parse(read_file(path));
  std::string data;
  for (testing::RawGguf::Tensor& tensor : gguf.tensors) {
    size_t count = 1;
    for (const uint64_t extent : tensor.shape) count *= extent;
    std::vector<float> values(count);
    std::memcpy(values.data(), gguf.data.data() + tensor.offset, count * sizeof(float));
    tensor.offset = data.size();
    if (tensor.shape.size() < 2) {
      data.append(reinterpret_cast<const char*>(values.data()), count * sizeof(float));
    } else {
      double squares = 0;
      for (const float v : values) squares += double{v} * v;
      data += random_blocks(type, count, std::sqrt(squares / static_cast<double>(count)),
                            static_cast<uint32_t>(tensor.offset));
      tensor.type = type;
    }
    data.append((gguf.alignment - data.size() % gguf.alignment) % gguf.alignment, '\0');
  }
  gguf.data = data;
  write_file_atomically(to, gguf.bytes());
}

class TypeParity : public ::testing::TestWithParam<ggml_type> {};

TEST_P(TypeParity, EqualsLibllama) {
  ParityCase c = parity_case("tiny-llama");
  c.model.layers = 1;
  if (!is_slow_to_make(GetParam())) {
    c.model.type = GetParam();
    return check_quantised(c);
  }
  const TemporaryFolder folder;
  const ParityFiles files(c, folder);
  const std::string path = folder.file("random");
  write_random_blocks(files.ours, GetParam(), path);
  const std::vector<int32_t> tokens = parity_tokens();
  const Parity ours = compare(libllama_logits(path, tokens), restkv_logits(path, tokens));
  std::printf("| %s | %s | %.1e | %.1e | | |\n", c.name.c_str(), ggml_type_name(GetParam()),
              ours.prompt.mean_kl(), ours.decoding.mean_kl());
  EXPECT_LE(ours.prompt.mean_kl(), 0.003);
  EXPECT_LE(ours.decoding.mean_kl(), 0.003);
}

INSTANTIATE_TEST_SUITE_P(Parity, TypeParity, ::testing::ValuesIn(other_types()),
                         [](const auto& test) {
                           return parity_test_name(ggml_type_name(test.param));
                         });

/// NVFP4 has a scale for each matrix besides those of its blocks.
TEST(Nvfp4Parity, MatricesHaveScales) {
  ParityCase c = parity_case("tiny-llama");
  c.model.type = GGML_TYPE_NVFP4;
  const TemporaryFolder folder;
  const ParityFiles files(c, folder);
  testing::RawGguf gguf = testing::RawGguf::parse(read_file(files.ours));
  std::vector<std::string> matrices;
  for (const testing::RawGguf::Tensor& tensor : gguf.tensors) {
    if (tensor.name.starts_with("blk.") && tensor.shape.size() == 2) {
      matrices.push_back(tensor.name.substr(0, tensor.name.rfind('.')));
    }
  }
  ASSERT_EQ(matrices.size(), 7 * c.model.layers);
  for (size_t i = 0; i < matrices.size(); ++i) {
    gguf.add_floats(matrices[i] + ".scale", {0.6F + 0.1F * static_cast<float>(i % 8)});
  }
  const std::string scaled = folder.file("scaled");
  write_file_atomically(scaled, gguf.bytes());
  const std::vector<int32_t> tokens = parity_tokens();
  const Logits theirs = libllama_logits(scaled, tokens);
  const Parity ours = compare(theirs, restkv_logits(scaled, tokens));
  std::printf("| llama, scales of matrices | nvfp4 | %.1e | %.1e | | |\n", ours.prompt.mean_kl(),
              ours.decoding.mean_kl());
  EXPECT_LE(ours.prompt.mean_kl(), 0.01);
  EXPECT_LE(ours.decoding.mean_kl(), 0.01);
  EXPECT_GT(compare(theirs, libllama_logits(files.theirs, tokens)).all_kl(), 0.05);
}
// What gpt-oss is published in.
INSTANTIATE_TEST_SUITE_P(Mxfp4, FamilyParity,
                         ::testing::Values(std::tuple("tiny-gpt-oss", GGML_TYPE_MXFP4)));

// --- What else files have, in float32 ------------------------------------------------------------

/// libllama runs no model whose values are shorter than its keys: fill them up with zeros, which
/// the output projection ignores.
void write_with_padded_values(const RandomModel& model, const std::string& path) {
  std::map<std::string, std::vector<float>> own;
  RandomModel source = model;
  source.edit_tensor = [&](RandomTensor& tensor) {
    own[tensor.name] = tensor.values;
    return true;
  };
  source.write(path);
  const size_t have = model.value_dim;
  const size_t want = model.head_dim;
  RandomModel padded = model;
  padded.value_dim = 0;
  padded.edit_tensor = [&](RandomTensor& tensor) {
    const std::vector<float>& values = own.at(tensor.name);
    if (tensor.values.size() == values.size()) {
      tensor.values = values;
      return true;
    }
    // Channel c of head h is a row of attn_v and a column of attn_output.
    const bool rows = tensor.name.ends_with("attn_v.weight");
    std::fill(tensor.values.begin(), tensor.values.end(), 0.0F);
    for (size_t h = 0; h < (rows ? model.kv_heads : model.query_heads); ++h) {
      for (size_t c = 0; c < have; ++c) {
        for (size_t i = 0; i < model.width; ++i) {
          const size_t from = h * have + c;
          const size_t to = h * want + c;
          if (rows) {
            tensor.values[to * model.width + i] = values[from * model.width + i];
          } else {
            tensor.values[i * model.query_heads * want + to] =
                values[i * model.query_heads * have + from];
          }
        }
      }
    }
    return true;
  };
  padded.write(path);
}

/// Pairs of experts that every token likes as much as each other, but that are not alike.
bool tie_experts(RandomTensor& tensor) {
  if (tensor.name.find("ffn_gate_inp.") == std::string::npos) return true;
  for (size_t e = 1; e < tensor.rows; e += 2) {
    std::copy_n(&tensor.values[(e - 1) * tensor.cols], tensor.cols,
                &tensor.values[e * tensor.cols]);
  }
  return true;
}

std::vector<ParityCase> variants() {
  std::vector<ParityCase> cases;
  const auto add = [&](const std::string& preset, const std::string& what, const auto& change) {
    ParityCase c = parity_case(preset);
    c.name += ", " + what;
    change(c.model);
    cases.push_back(std::move(c));
  };
  add("tiny-llama", "MHA", [](RandomModel& m) { m.kv_heads = m.query_heads; });
  add("tiny-llama", "wide heads", [](RandomModel& m) { m.head_dim = 128; });
  add("tiny-llama", "odd sizes", [](RandomModel& m) {
    m.width = 144;
    m.query_heads = 9;
    m.kv_heads = 3;
    m.head_dim = 16;
    m.ffn_width = 200;
  });
  add("tiny-llama", "biases", [](RandomModel& m) { m.biases = true; });
  add("tiny-llama", "linear RoPE", [](RandomModel& m) {
    m.rope_scaling = "linear";
    m.rope_factor = 4;
  });
  add("tiny-llama", "values of 32", [](RandomModel& m) { m.value_dim = 32; });
  cases.back().write_for_libllama = write_with_padded_values;
  add("tiny-mistral-v0.1", "every second layer without a window",
      [](RandomModel& m) { m.window_pattern = 2; });
  add("tiny-qwen2", "tied", [](RandomModel& m) { m.tied = true; });
  add("tiny-qwen2", "YaRN", [](RandomModel& m) {
    m.rope_scaling = "yarn";
    m.rope_factor = 4;
    m.rope_original_context = 128;
  });
  add("tiny-qwen3", "untied", [](RandomModel& m) { m.tied = false; });
  add("tiny-qwen3moe", "all experts", [](RandomModel& m) { m.experts_used = m.experts; });
  add("tiny-qwen3moe", "one of 40 experts", [](RandomModel& m) {
    m.experts = 40;
    m.experts_used = 1;
  });
  add("tiny-qwen2moe", "tied experts", [](RandomModel& m) {
    m.experts_used = 3;
    m.edit_tensor = tie_experts;
  });
  add("tiny-granitemoe", "no shared expert, untied", [](RandomModel& m) {
    m.shared_expert_width = 0;
    m.tied = false;
  });
  // A family that computes what another does.
  add("tiny-llama", "as internlm2", [](RandomModel& m) { m.architecture = "internlm2"; });
  add("tiny-olmo2", "no window", [](RandomModel& m) {
    m.layers = 2;
    m.window = 0;
  });
  add("tiny-gemma", "heads of 256", [](RandomModel& m) { m.head_dim = 256; });
  // libllama knows the 27B sizes, whose softmax has another scale, by their number of layers.
  add("tiny-gemma2", "46 layers", [](RandomModel& m) {
    m.layers = 46;
    m.width = 64;
    m.ffn_width = 64;
    m.query_heads = 4;
    m.kv_heads = 2;
    m.head_dim = 32;
  });
  add("tiny-gemma3", "62 layers", [](RandomModel& m) {
    m.layers = 62;
    m.width = 64;
    m.ffn_width = 64;
    m.query_heads = 4;
    m.kv_heads = 2;
    m.head_dim = 32;
  });
  add("tiny-gemma3", "linear RoPE, untied", [](RandomModel& m) {
    m.rope_scaling = "linear";
    m.rope_factor = 8;
    m.tied = false;
  });
  add("tiny-gemma3", "other local base, every third layer global", [](RandomModel& m) {
    m.rope_base_local = 5000;
    m.window_pattern = 3;
  });
  add("tiny-gemma3", "list of local layers", [](RandomModel& m) {
    m.edit_metadata = [](gguf_context* gguf) {
      const std::vector<int8_t> local{1, 0, 1, 1, 0, 0, 1};
      gguf_set_arr_data(gguf, "gemma3.attention.sliding_window_pattern", GGUF_TYPE_BOOL,
                        local.data(), local.size());
    };
  });
  add("tiny-gemma3", "no window", [](RandomModel& m) { m.window = 0; });
  add("tiny-phi-3", "heads of 96, MHA, tied", [](RandomModel& m) {
    m.width = 384;
    m.head_dim = 96;
    m.kv_heads = m.query_heads;
    m.tied = true;
  });
  add("tiny-phi-3-long", "within the original context",
      [](RandomModel& m) { m.rope_original_context = m.context; });
  return cases;
}

class VariantParity : public ::testing::TestWithParam<ParityCase> {};

TEST_P(VariantParity, EqualsLibllama) { check_float32(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Parity, VariantParity, ::testing::ValuesIn(variants()),
                         [](const auto& test) { return parity_test_name(test.param.name); });

}  // namespace
}  // namespace restkv
