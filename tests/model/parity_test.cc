// The forward pass of every family against libllama on the same file, in every kind of weights.
//
//   model_test --gtest_filter='*Parity/*' | grep '^|'
//
// prints what was measured as the rows of a table: name, type, and, for the prompt and for
// decoding, the largest difference of a logit (float32), or the mean KL divergence of restkv and
// that of an exact computation (other types). docs/parity.md shows them.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <functional>
#include <map>
#include <ostream>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "make_model/presets.h"
#include "restkv/engine.h"
#include "support/divergence.h"
#include "support/llama_reference.h"
#include "support/tiny_model.h"
#include "support/windowed_llama.h"

namespace restkv {
namespace {

using ::restkv::testing::Divergence;
using ::restkv::testing::LlamaReference;
using ::restkv::testing::TemporaryFolder;

constexpr size_t kPrompt = 300;  // several windows of 64
constexpr size_t kSteps = 50;
constexpr uint32_t kContext = 512;
constexpr size_t kVocabulary = 512;

/// Prompt and decoding steps: tokens that repeat, as words do.
std::vector<int32_t> make_tokens() {
  std::mt19937 random(7);
  std::vector<int32_t> tokens(kPrompt + kSteps);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocabulary);
  return tokens;
}

/// Receives the logits after each of the tokens, in order.
using Sink = std::function<void(size_t position, std::span<const float> logits)>;

void feed(LlamaReference& reference, std::span<const int32_t> tokens, const Sink& sink) {
  reference.feed(tokens.first(kPrompt));
  for (size_t i = 0; i < kPrompt; ++i) sink(i, reference.logits(i));
  for (size_t i = kPrompt; i < tokens.size(); ++i) {
    reference.feed(tokens.subspan(i, 1));
    sink(i, reference.logits(0));
  }
}

void run_libllama(const std::string& path, std::span<const int32_t> tokens, const Sink& sink) {
  LlamaReference reference(path, {.context = kContext});
  feed(reference, tokens, sink);
}

/// On float32 files, an exact computation.
void run_libllama_exactly(const std::string& path, std::span<const int32_t> tokens,
                          const Sink& sink) {
  LlamaReference reference(path, {.context = kContext, .exact_gelu = true});
  feed(reference, tokens, sink);
}

void run_restkv(const std::string& path, std::span<const int32_t> tokens, const Sink& sink) {
  const Model model(path);
  Engine engine(model);
  const std::span<const int32_t> prompt = tokens.first(kPrompt);
  engine.score(prompt, [&](size_t first, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) sink(first + r, {logits.row(r), logits.cols});
  });
  CacheRequest request;
  request.options = default_options("full");
  request.kv_type = KvType::kF32;  // like the reference's cache
  engine.prefill(prompt, {&request, 1});
  for (size_t i = kPrompt; i < tokens.size(); ++i) sink(i, engine.decode(tokens[i], request.cache));
}

/// All logits of one run; [positions][vocabulary].
using Logits = std::vector<std::vector<float>>;

template <class Run>
Logits logits_of(const Run& run, const std::string& path, std::span<const int32_t> tokens) {
  Logits all(tokens.size());
  run(path, tokens, [&](size_t position, std::span<const float> logits) {
    all[position].assign(logits.begin(), logits.end());
  });
  return all;
}

/// Over the prompt and over the decoding steps.
struct Parity {
  Divergence prompt, decoding;

  [[nodiscard]] double all_kl() const {
    return (prompt.kl_sum + decoding.kl_sum) / (prompt.rows + decoding.rows);
  }
};

Parity compare(const Logits& reference, const Logits& other) {
  Parity parity;
  for (size_t i = 0; i < reference.size(); ++i) {
    (i < kPrompt ? parity.prompt : parity.decoding).add(reference[i], other[i]);
  }
  return parity;
}

/// The same model with every matrix rounded to `type` and stored as float32: libllama computes
/// exactly with it.
RandomModel dequantised(RandomModel model) {
  const ggml_type type = model.type;
  model.type = GGML_TYPE_F32;
  model.edit_tensor = [type](RandomTensor& tensor) {
    if (tensor.rows == 1) return true;  // norms, biases, factors
    const auto cols = static_cast<int64_t>(tensor.cols);
    std::vector<char> row(ggml_row_size(type, cols));
    for (size_t r = 0; r < tensor.rows; ++r) {
      float* values = tensor.values.data() + r * tensor.cols;
      ggml_quantize_chunk(type, values, row.data(), 0, 1, cols, nullptr);
      ggml_get_type_traits(type)->to_float(row.data(), values, cols);
    }
    return true;
  };
  return model;
}

/// A model, and how to write it for libllama where that cannot read the model's own file.
struct Case {
  std::string name;
  RandomModel model;
  std::function<void(const RandomModel&, const std::string& path)> write_for_libllama = {};
};

/// For the messages of failing tests.
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::string test_name(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

/// The files of a case in a folder.
struct Files {
  Files(const Case& c, const TemporaryFolder& folder)
      : ours(folder.file("ours")), theirs(c.write_for_libllama ? folder.file("theirs") : ours) {
    c.model.write(ours);
    if (c.write_for_libllama) c.write_for_libllama(c.model, theirs);
  }

  std::string ours, theirs;
};

void check_float32(const Case& c) {
  const TemporaryFolder folder;
  const std::vector<int32_t> tokens = make_tokens();
  const Files files(c, folder);
  const Parity ours = compare(logits_of(run_libllama_exactly, files.theirs, tokens),
                              logits_of(run_restkv, files.ours, tokens));
  std::printf("| %s | f32 | %.1e | %.1e | | |\n", c.name.c_str(), ours.prompt.max_difference,
              ours.decoding.max_difference);
  EXPECT_LE(ours.prompt.max_difference, 1e-3);
  EXPECT_LE(ours.decoding.max_difference, 1e-3);
}

void check_quantised(const Case& c) {
  const TemporaryFolder folder;
  const TemporaryFolder exact_folder;
  const std::vector<int32_t> tokens = make_tokens();
  const Files files(c, folder);
  const Files exact_files({c.name, dequantised(c.model), c.write_for_libllama}, exact_folder);
  const Logits theirs = logits_of(run_libllama, files.theirs, tokens);
  const Parity exact = compare(theirs, logits_of(run_libllama_exactly, exact_files.theirs, tokens));
  const Parity ours = compare(theirs, logits_of(run_restkv, files.ours, tokens));
  std::printf("| %s | %s | %.1e | %.1e | %.1e | %.1e |\n", c.name.c_str(),
              ggml_type_name(c.model.type), ours.prompt.mean_kl(), ours.decoding.mean_kl(),
              exact.prompt.mean_kl(), exact.decoding.mean_kl());
  EXPECT_LE(ours.prompt.mean_kl(), 0.01);
  EXPECT_LE(ours.decoding.mean_kl(), 0.01);
  EXPECT_LE(ours.all_kl(), 1.5 * exact.all_kl());
  // Decoding rounds activations as libllama does, but other activations: its prompt was computed
  // with rounding, too. Two independent errors are twice as far apart as one is from none.
  EXPECT_LE(ours.decoding.mean_kl(), 2.0 * exact.decoding.mean_kl());
}

// --- Every family in every kind of weights -------------------------------------------------------

/// A tiny preset, small enough for all of them to be compared in seconds.
Case family(const std::string& preset) {
  Case c{.name = preset.substr(std::string("tiny-").size()), .model = find_preset(preset)};
  c.model.tokenizer = testing::test_model_path();
  c.model.vocabulary = kVocabulary;
  if (c.model.architecture == "llama" && c.model.window > 0) {
    c.write_for_libllama = testing::write_windowed_llama;
  }
  return c;
}

std::vector<std::string> tiny_presets() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) {
    if (preset.name.starts_with("tiny-")) names.emplace_back(preset.name);
  }
  return names;
}

class FamilyParity : public ::testing::TestWithParam<std::tuple<std::string, ggml_type>> {};

TEST_P(FamilyParity, EqualsLibllama) {
  Case c = family(std::get<0>(GetParam()));
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
                           return test_name(std::get<0>(test.param).substr(5) + "_" +
                                            ggml_type_name(std::get<1>(test.param)));
                         });

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

std::vector<Case> variants() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& preset, const std::string& what, const auto& change) {
    Case c = family(preset);
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
  add("tiny-qwen2", "tied", [](RandomModel& m) { m.tied = true; });
  add("tiny-qwen2", "YaRN", [](RandomModel& m) {
    m.rope_scaling = "yarn";
    m.rope_factor = 4;
    m.rope_original_context = 128;
  });
  add("tiny-qwen3", "untied", [](RandomModel& m) { m.tied = false; });
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

class VariantParity : public ::testing::TestWithParam<Case> {};

TEST_P(VariantParity, EqualsLibllama) { check_float32(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Parity, VariantParity, ::testing::ValuesIn(variants()),
                         [](const auto& test) { return test_name(test.param.name); });

}  // namespace
}  // namespace restkv
