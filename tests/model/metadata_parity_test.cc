// Every metadata key that is read, at a value that changes the logits, beside libllama on the same
// file; and tensors that only some files have. Where libllama reads a key in another family only,
// the reference is the same network under that family's name.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "model/metadata.h"
#include "model/parity.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "support/raw_gguf.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::restkv::testing::little_endian;
using ::restkv::testing::RawGguf;
using ::restkv::testing::TemporaryFolder;

using Edit = std::function<void(RawGguf&)>;

struct KeyCase {
  std::string name;
  std::string preset;
  Edit edit;
  /// The keys that make the difference, and whether there is one.
  std::vector<std::string> keys = {};
  bool changes = true;
  /// Makes the file readable for libllama.
  Edit for_libllama = {};
  std::function<void(RandomModel&)> shape = {};
};

void PrintTo(const KeyCase& c, std::ostream* out) { *out << c.name; }

RawGguf read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return RawGguf::parse(std::string{std::istreambuf_iterator<char>(file), {}});
}

void write(const RawGguf& gguf, const std::string& path) {
  std::ofstream(path, std::ios::binary) << gguf.bytes();
}

void set_integer(RawGguf& gguf, const std::string& key, uint32_t value) {
  gguf.set_number(key, GGUF_TYPE_UINT32, value);
}

void set_integers(RawGguf& gguf, const std::string& key, uint32_t type,
                  const std::vector<uint32_t>& values) {
  std::string bytes;
  for (const uint32_t value : values) bytes += little_endian(value, 4);
  gguf.set_array(key, type, values.size(), bytes);
}

std::vector<float> waves(size_t size) {
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = static_cast<float>(i % 7) / 3 - 1;
  return values;
}

Edit as_granite(float attention_scale) {
  return [=](RawGguf& g) {
    g.rename_architecture("llama", "granite");
    g.set_float("granite.logit_scale", 1);
    g.set_float("granite.attention.scale", attention_scale);
  };
}

void stretch_by_yarn(RawGguf& g, const std::string& architecture) {
  g.set_string(architecture + ".rope.scaling.type", "yarn");
  g.set_float(architecture + ".rope.scaling.factor", 4);
  set_integer(g, architecture + ".rope.scaling.original_context_length", 128);
}

/// libllama reads no scale of the weights of experts in these families: scales their outputs.
void scale_experts(RawGguf& g, float factor) {
  for (const RawGguf::Tensor& tensor : g.tensors) {
    if (tensor.name.find("ffn_down_exps") == std::string::npos) continue;
    size_t count = 1;
    for (const uint64_t extent : tensor.shape) count *= extent;
    std::vector<float> values(count);
    std::memcpy(values.data(), &g.data[tensor.offset], count * sizeof(float));
    for (float& x : values) x *= factor;
    std::memcpy(&g.data[tensor.offset], values.data(), count * sizeof(float));
  }
}

std::vector<KeyCase> cases() {
  std::vector<KeyCase> all;
  // ---- RoPE
  all.push_back({"RoPE factor, its older name",
                 "tiny-llama",
                 [](RawGguf& g) { g.set_float("llama.rope.scale_linear", 4); },
                 {".rope.scale_linear"}});
  all.push_back({"RoPE factor, both names",
                 "tiny-llama",
                 [](RawGguf& g) {
                   g.set_float("llama.rope.scale_linear", 4);
                   g.set_float("llama.rope.scaling.factor", 2);
                 },
                 {".rope.scaling.factor", ".rope.scale_linear"}});
  all.push_back({"RoPE factor, the newer name says none",
                 "tiny-llama",
                 [](RawGguf& g) {
                   g.set_float("llama.rope.scale_linear", 4);
                   g.set_float("llama.rope.scaling.factor", 0);
                 },
                 {".rope.scaling.factor"},
                 false});
  all.push_back({"RoPE factor, gemma2 in all layers",
                 "tiny-gemma2",
                 [](RawGguf& g) { g.set_float("gemma2.rope.scaling.factor", 3); },
                 {".rope.scaling.factor"}});
  all.push_back({"RoPE factor, gemma3 older name",
                 "tiny-gemma3",
                 [](RawGguf& g) { g.set_float("gemma3.rope.scale_linear", 8); },
                 {".rope.scale_linear"}});
  all.push_back({"RoPE scaling none",
                 "tiny-qwen2",
                 [](RawGguf& g) {
                   g.set_string("qwen2.rope.scaling.type", "none");
                   g.set_float("qwen2.rope.scaling.factor", 4);
                 },
                 {".rope.scaling.type"},
                 false});
  all.push_back({"RoPE base",
                 "tiny-llama",
                 [](RawGguf& g) { g.set_float("llama.rope.freq_base", 500); },
                 {".rope.freq_base"}});
  all.push_back({"RoPE base left out",
                 "tiny-qwen2",
                 [](RawGguf& g) { g.remove("qwen2.rope.freq_base"); },
                 {".rope.freq_base"}});
  all.push_back({"RoPE base of windows, gemma2",
                 "tiny-gemma2",
                 [](RawGguf& g) { g.set_float("gemma2.rope.freq_base_swa", 300); },
                 {".rope.freq_base_swa"}});
  all.push_back({"RoPE base of windows, gemma3",
                 "tiny-gemma3",
                 [](RawGguf& g) { g.set_float("gemma3.rope.freq_base_swa", 300); },
                 {".rope.freq_base_swa"}});
  for (const char* name : {"gemma", "gemma2", "gemma3", "phi3"}) {
    const std::string architecture = name;
    const std::string preset = architecture == "phi3" ? "tiny-phi-3" : "tiny-" + architecture;
    all.push_back({"rotated channels, " + architecture,
                   preset,
                   [=](RawGguf& g) {
                     set_integer(g, architecture + ".rope.dimension_count", 32);
                     set_integer(g, architecture + ".rope.dimension_count_swa", 32);
                   },
                   {".rope.dimension_count", ".rope.dimension_count_swa"}});
  }
  for (const char* name : {"llama", "qwen3", "gemma2", "gemma3"}) {
    const std::string architecture = name;
    all.push_back(
        {"YaRN, " + architecture,
         "tiny-" + architecture,
         [=](RawGguf& g) {
           stretch_by_yarn(g, architecture);
           g.set_float(architecture + ".rope.scaling.attn_factor", 0.8F);
           // What is computed anyway: 1 + ln(4) / 10.
           g.set_float(architecture + ".rope.scaling.yarn_attn_factor", 1.1386294F);
         },
         {".rope.scaling.type", ".rope.scaling.factor", ".rope.scaling.original_context_length",
          ".rope.scaling.attn_factor", ".rope.scaling.yarn_attn_factor"}});
  }
  all.push_back({"attention factor without YaRN",
                 "tiny-gemma3",
                 [](RawGguf& g) { g.set_float("gemma3.rope.scaling.attn_factor", 1.2F); },
                 {".rope.scaling.attn_factor"}});
  all.push_back({"YaRN's betas",
                 "tiny-llama",
                 [](RawGguf& g) {
                   stretch_by_yarn(g, "llama");
                   g.set_float("llama.rope.scaling.yarn_beta_fast", 8);
                   g.set_float("llama.rope.scaling.yarn_beta_slow", 2);
                 },
                 {".rope.scaling.yarn_beta_fast", ".rope.scaling.yarn_beta_slow"},
                 true,
                 [](RawGguf& g) { g.rename_architecture("llama", "mistral3"); }});
  all.push_back(
      {"LongRoPE, llama", "tiny-llama", {}, {".rope.scaling.type"}, true, {}, [](RandomModel& m) {
         m.rope_scaling = "longrope";
         m.rope_original_context = 256;
       }});
  all.push_back({"LongRoPE within the original context",
                 "tiny-phi-3-long",
                 [](RawGguf& g) {
                   set_integer(g, "phi3.context_length", 512);
                   set_integer(g, "phi3.rope.scaling.original_context_length", 512);
                 },
                 {".context_length", ".rope.scaling.original_context_length"}});
  // ---- Scales
  all.push_back({"epsilon",
                 "tiny-llama",
                 [](RawGguf& g) { g.set_float("llama.attention.layer_norm_rms_epsilon", 0.05F); },
                 {".attention.layer_norm_rms_epsilon"}});
  all.push_back({"softmax scale",
                 "tiny-llama",
                 [](RawGguf& g) { g.set_float("llama.attention.scale", 0.05F); },
                 {".attention.scale"},
                 true,
                 as_granite(0.05F)});
  all.push_back({"softmax scale 0",
                 "tiny-llama",
                 [](RawGguf& g) { g.set_float("llama.attention.scale", 0); },
                 {".attention.scale"},
                 false});
  all.push_back({"soft caps, gemma2",
                 "tiny-gemma2",
                 [](RawGguf& g) {
                   g.set_float("gemma2.attn_logit_softcapping", 2);
                   g.set_float("gemma2.final_logit_softcapping", 4);
                 },
                 {".attn_logit_softcapping", ".final_logit_softcapping"}});
  all.push_back({"soft caps left out, gemma2",
                 "tiny-gemma2",
                 [](RawGguf& g) {
                   g.remove("gemma2.attn_logit_softcapping");
                   g.remove("gemma2.final_logit_softcapping");
                 },
                 {".attn_logit_softcapping", ".final_logit_softcapping"}});
  all.push_back({"soft cap, gemma3",
                 "tiny-gemma3",
                 [](RawGguf& g) { g.set_float("gemma3.final_logit_softcapping", 4); },
                 {".final_logit_softcapping"}});
  all.push_back({"multipliers, granite",
                 "tiny-granite",
                 [](RawGguf& g) {
                   g.set_float("granite.embedding_scale", 2);
                   g.set_float("granite.residual_scale", 0.5F);
                   g.set_float("granite.logit_scale", 4);
                   g.set_float("granite.attention.scale", 0.3F);
                 },
                 {".embedding_scale", ".residual_scale", ".logit_scale", ".attention.scale"}});
  all.push_back({"multipliers of 0, granitemoe",
                 "tiny-granitemoe",
                 [](RawGguf& g) {
                   g.set_float("granitemoe.embedding_scale", 0);
                   g.set_float("granitemoe.residual_scale", 0);
                   g.set_float("granitemoe.attention.scale", 0);
                   g.set_number("granitemoe.rope.scaling.finetuned", GGUF_TYPE_BOOL, 1);
                 },
                 {".embedding_scale", ".residual_scale", ".rope.scaling.finetuned"}});
  // ---- Experts
  all.push_back({"more experts for a token",
                 "tiny-mixtral",
                 [](RawGguf& g) { set_integer(g, "llama.expert_used_count", 5); },
                 {".expert_used_count"}});
  all.push_back({"one expert for a token",
                 "tiny-olmoe",
                 [](RawGguf& g) { set_integer(g, "olmoe.expert_used_count", 1); },
                 {".expert_used_count"}});
  all.push_back({"fewer and wider experts",
                 "tiny-qwen3moe",
                 {},
                 {".expert_count", ".expert_feed_forward_length"},
                 true,
                 {},
                 [](RandomModel& m) {
                   m.experts = 5;
                   m.expert_width = 512;
                 }});
  all.push_back({"width of the shared expert",
                 "tiny-granitemoe",
                 {},
                 {".expert_shared_feed_forward_length"},
                 true,
                 {},
                 [](RandomModel& m) { m.shared_expert_width = 512; }});
  all.push_back({"no shared expert",
                 "tiny-granitemoe",
                 {},
                 {".expert_shared_feed_forward_length"},
                 true,
                 {},
                 [](RandomModel& m) { m.shared_expert_width = 0; }});
  all.push_back({"scaled weights of experts",
                 "tiny-qwen3moe",
                 [](RawGguf& g) { g.set_float("qwen3moe.expert_weights_scale", 0.25F); },
                 {".expert_weights_scale"},
                 true,
                 [](RawGguf& g) { scale_experts(g, 0.25F); }});
  all.push_back(
      {"weights of experts add up to 1",
       "tiny-qwen3moe",
       [](RawGguf& g) { g.set_number("qwen3moe.expert_weights_norm", GGUF_TYPE_BOOL, 1); },
       {".expert_weights_norm"},
       false});
  // ---- Windows
  all.push_back({"window, gemma2",
                 "tiny-gemma2",
                 [](RawGguf& g) { set_integer(g, "gemma2.attention.sliding_window", 20); },
                 {".attention.sliding_window"}});
  all.push_back({"window left out, gemma2",
                 "tiny-gemma2",
                 [](RawGguf& g) { g.remove("gemma2.attention.sliding_window"); },
                 {".attention.sliding_window"}});
  all.push_back({"every third layer global, gemma2",
                 "tiny-gemma2",
                 [](RawGguf& g) { set_integer(g, "gemma2.attention.sliding_window_pattern", 3); },
                 {".attention.sliding_window_pattern"}});
  all.push_back({"no layer global, gemma3",
                 "tiny-gemma3",
                 [](RawGguf& g) { set_integer(g, "gemma3.attention.sliding_window_pattern", 0); },
                 {".attention.sliding_window_pattern"}});
  all.push_back(
      {"list of local layers as integers, gemma2",
       "tiny-gemma2",
       [](RawGguf& g) {
         set_integers(g, "gemma2.attention.sliding_window_pattern", GGUF_TYPE_INT32, {0, 1, 1, 0});
       },
       {".attention.sliding_window_pattern"}});
  // ---- Sizes
  all.push_back({"sizes as lists",
                 "tiny-llama",
                 [](RawGguf& g) {
                   set_integers(g, "llama.attention.head_count", GGUF_TYPE_UINT32, {4, 4, 4});
                   set_integers(g, "llama.attention.head_count_kv", GGUF_TYPE_INT32, {2, 2, 2});
                   set_integers(g, "llama.feed_forward_length", GGUF_TYPE_UINT32, {512, 512, 512});
                 },
                 {".attention.head_count", ".attention.head_count_kv", ".feed_forward_length"},
                 false});
  all.push_back({"KV heads left out",
                 "tiny-gemma",
                 [](RawGguf& g) { g.remove("gemma.attention.head_count_kv"); },
                 {".attention.head_count_kv"},
                 false});
  all.push_back({"head size left out",
                 "tiny-llama",
                 [](RawGguf& g) {
                   g.remove("llama.attention.key_length");
                   g.remove("llama.attention.value_length");
                   g.remove("llama.rope.dimension_count");
                 },
                 {".attention.key_length", ".attention.value_length"},
                 false});
  all.push_back({"head size of windows again",
                 "tiny-gemma3",
                 [](RawGguf& g) {
                   set_integer(g, "gemma3.attention.key_length_swa", 128);
                   set_integer(g, "gemma3.attention.value_length_swa", 128);
                 },
                 {".attention.key_length_swa", ".attention.value_length_swa"},
                 false});
  all.push_back({"no vocabulary",
                 "tiny-llama",
                 [](RawGguf& g) {
                   std::erase_if(g.values, [](const RawGguf::Value& value) {
                     return value.key.starts_with("tokenizer.");
                   });
                   g.set_string("tokenizer.ggml.model", "no_vocab");
                 },
                 {".vocab_size"},
                 false});
  all.push_back({"vocabulary of another size than the key says",
                 "tiny-llama",
                 [](RawGguf& g) { set_integer(g, "llama.vocab_size", 100); },
                 {".vocab_size"},
                 false});
  // ---- Tensors
  all.push_back(
      {"output bias", "tiny-qwen2", [](RawGguf& g) { g.add_floats("output.bias", waves(512)); }});
  all.push_back({"output bias, tied",
                 "tiny-qwen2",
                 [](RawGguf& g) { g.add_floats("output.bias", waves(512)); },
                 {},
                 true,
                 {},
                 [](RandomModel& m) { m.tied = true; }});
  all.push_back({"fused matrix with a fused bias", "tiny-phi-3",
                 [](RawGguf& g) { g.add_floats("blk.1.attn_qkv.bias", waves(512)); }});
  all.push_back({"fused matrix with the biases of its parts", "tiny-phi-3", [](RawGguf& g) {
                   g.add_floats("blk.1.attn_q.bias", waves(256));
                   g.add_floats("blk.1.attn_k.bias", waves(128));
                   g.add_floats("blk.1.attn_v.bias", waves(128));
                 }});
  all.push_back({"biases of qwen3", "tiny-qwen3", [](RawGguf& g) {
                   g.add_floats("blk.0.attn_q.bias", waves(512));
                   g.add_floats("blk.2.attn_v.bias", waves(256));
                 }});
  all.push_back({"scales of 1, input scales",
                 "tiny-llama",
                 [](RawGguf& g) {
                   g.add_floats("blk.0.attn_q.scale", {1});
                   g.add_floats("blk.1.ffn_down.scale", {1});
                   g.add_floats("blk.1.ffn_down.input_scale", {0.3F});
                 },
                 {},
                 false});
  // ---- What is ignored
  const auto ignored = [](const std::string& architecture) {
    return [=](RawGguf& g) {
      g.set_number("general.file_type", GGUF_TYPE_UINT32, 99);
      g.set_number("general.quantization_version", GGUF_TYPE_UINT32, 1);
      g.set_float("general.sampling.temp", 9);
      g.set_number(architecture + ".rope.scaling.finetuned", GGUF_TYPE_BOOL, 1);
      g.set_string(architecture + ".tensor_data_layout", "Meta AI original pth");
      g.set_string(architecture + ".hidden_activation", "relu");
      g.set_float(architecture + ".attention.layer_norm_epsilon", 0.5F);
      set_integer(g, architecture + ".embedding_length_out", 128);
      set_integer(g, architecture + ".pooling_type", 3);
      set_integer(g, architecture + ".classifier.pooling_type", 3);
      g.set_strings(architecture + ".classifier.output_labels", {"yes", "no"});
      set_integer(g, architecture + ".ssm.inner_size", 7);
      set_integer(g, architecture + ".nobody.knows_this", 7);
    };
  };
  for (const char* name : {"llama", "qwen3", "gemma3"}) {
    all.push_back({fmt::format("ignored keys, {}", name),
                   fmt::format("tiny-{}", name),
                   ignored(name),
                   {},
                   false});
  }
  all.push_back({"window of qwen2",
                 "tiny-qwen2",
                 [](RawGguf& g) { set_integer(g, "qwen2.attention.sliding_window", 20); },
                 {},
                 false});
  return all;
}

class KeyParity : public ::testing::TestWithParam<KeyCase> {};

TEST_P(KeyParity, EqualsLibllama) {
  const KeyCase& c = GetParam();
  const TemporaryFolder folder;
  const std::string plain = folder.file("plain");
  const std::string ours = folder.file("ours");
  const std::string theirs = folder.file("theirs");
  RandomModel model = testing::parity_case(c.preset).model;
  model.write(plain);
  if (c.shape) c.shape(model);
  model.write(ours);
  RawGguf gguf = read(ours);
  if (c.edit) c.edit(gguf);
  write(gguf, ours);
  if (c.for_libllama) c.for_libllama(gguf);
  write(gguf, theirs);

  const std::vector<int32_t> tokens = testing::parity_tokens();
  const testing::Logits reference = testing::exact_libllama_logits(theirs, tokens);
  const double difference =
      testing::compare(reference, testing::restkv_logits(ours, tokens)).max_difference();
  const double change =
      testing::compare(reference, testing::exact_libllama_logits(plain, tokens)).max_difference();
  std::printf("%s: libllama is %.1e away, the file without the change %.1e\n", c.name.c_str(),
              difference, change);
  EXPECT_LE(difference, 1e-3);
  if (c.changes) {
    EXPECT_GT(change, 0.05) << "the case proves nothing";
  } else {
    EXPECT_EQ(change, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Metadata, KeyParity, ::testing::ValuesIn(cases()), [](const auto& test) {
  return testing::parity_test_name(test.param.name);
});

TEST(KeyParityCases, CoverEveryKeyThatIsRead) {
  std::set<std::string> covered;
  for (const KeyCase& c : cases()) covered.insert(c.keys.begin(), c.keys.end());
  // Every file has them, and the presets' differ.
  covered.insert({".block_count", ".embedding_length"});
  for (const KeyRule& rule : key_rules()) {
    if (rule.use != KeyUse::kRead || !rule.key.starts_with('.')) continue;
    EXPECT_TRUE(covered.contains(std::string(rule.key))) << rule.key;
  }
}

// ---- Files with more than their architecture has

class UnusedTensors : public ::testing::Test {
 protected:
  std::string error_of(const std::string& preset, const Edit& edit) const {
    testing::parity_case(preset).model.write(path_);
    RawGguf gguf = read(path_);
    edit(gguf);
    write(gguf, path_);
    return testing::refusal_if_any([&] { const Model model(path_); });
  }
  void expect_refused(const std::string& preset, const Edit& edit,
                      const std::vector<std::string>& parts) const {
    const std::string error = error_of(preset, edit);
    for (const std::string& part : parts) {
      EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
    }
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("model.gguf");
};

TEST_F(UnusedTensors, AreRefused) {
  const std::vector<std::pair<std::string, std::string>> tensors{
      {"tiny-llama", "blk.0.attn_q_norm.weight"},   {"tiny-llama", "blk.1.ffn_gate_inp.weight"},
      {"tiny-qwen2", "blk.0.attn_k_norm.weight"},   {"tiny-gemma", "blk.2.post_ffw_norm.weight"},
      {"tiny-phi-3", "blk.0.attn_norm.bias"},       {"tiny-phi-3", "output_norm.bias"},
      {"tiny-qwen3", "blk.0.attn_sinks.weight"},    {"tiny-gemma3", "v.patch_embd.weight"},
      {"tiny-llama", "rope_factors_medium.weight"}, {"tiny-llama", "blk.x.weight"},
  };
  for (const auto& [preset, tensor] : tensors) {
    expect_refused(preset, [&](RawGguf& g) { g.add_floats(tensor, waves(64)); },
                   {path_, "'" + tensor + "'", "would be wrong"});
  }
  expect_refused("tiny-llama",
                 [](RawGguf& g) {
                   g.add_floats("blk.0.attn_q_norm.weight", waves(64));
                   g.add_floats("blk.1.attn_q_norm.weight", waves(64));
                 },
                 {"'blk.0.attn_q_norm.weight' (and 1 more)"});
}

TEST_F(UnusedTensors, ScalesOfMatricesAreRefused) {
  expect_refused("tiny-llama", [](RawGguf& g) { g.add_floats("blk.0.attn_q.scale", {0.5F}); },
                 {"'blk.0.attn_q.scale'", "another quantisation"});
}

TEST_F(UnusedTensors, LayersBeyondTheBlockCountAreRefused) {
  expect_refused("tiny-llama", [](RawGguf& g) { set_integer(g, "llama.block_count", 2); },
                 {path_, "'blk.2.attn_k.weight'", "'llama.block_count' is 2"});
}

TEST_F(UnusedTensors, HeadsBehindTheLastLayerAreIgnored) {
  EXPECT_EQ(
      error_of("tiny-qwen3", [](RawGguf& g) { g.add_floats("cls.output.weight", waves(256)); }),
      "");
  EXPECT_EQ(error_of("tiny-gemma3", [](RawGguf& g) { g.add_floats("dense_2.weight", waves(256)); }),
            "");
}

TEST_F(UnusedTensors, LongRopeNeedsTheFactorsOfItsContext) {
  const auto without = [](const std::string& tensor) {
    return [=](RawGguf& g) {
      for (RawGguf::Tensor& t : g.tensors) {
        if (t.name == tensor) t.name = "somewhere.input_scale";
      }
    };
  };
  expect_refused("tiny-phi-3-long", without("rope_factors_long.weight"),
                 {"has no tensor 'rope_factors_long.weight'"});
  EXPECT_EQ(error_of("tiny-phi-3-long", without("rope_factors_short.weight")), "");
  expect_refused("tiny-llama",
                 [](RawGguf& g) { g.set_string("llama.rope.scaling.type", "longrope"); },
                 {"has no tensor 'rope_factors_short.weight'"});
}

TEST_F(UnusedTensors, FilesThatAreNoModelsAreRefused) {
  expect_refused("tiny-llama", [](RawGguf& g) { g.set_string("general.type", "adapter"); },
                 {path_, "'general.type' is 'adapter'; expected 'model'", "llama-export-lora"});
  EXPECT_EQ(error_of("tiny-llama", [](RawGguf& g) { g.set_string("general.type", "model"); }), "");
  expect_refused("tiny-llama", [](RawGguf& g) { g.set_string("general.architecture", "LLaMA"); },
                 {"'LLaMA' is not supported; known: llama"});
}

}  // namespace
}  // namespace restkv
