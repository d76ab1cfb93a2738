// The whole path (prefill, compression per layer, decoding over the kept rows) against the
// published code running a tiny Llama: the `e2e.*` golden cases.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "restkv/engine.h"
#include "support/golden.h"
#include "support/golden_options.h"
#include "support/safetensors.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;

/// Hugging Face names of the tensors of a GGUF file.
std::string source_name(const std::string& gguf_name) {
  static const std::map<std::string, std::string> kParts = {
      {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  if (gguf_name == "token_embd.weight") return "model.embed_tokens.weight";
  if (gguf_name == "output_norm.weight") return "model.norm.weight";
  if (gguf_name == "output.weight") return "lm_head.weight";
  const size_t dot = gguf_name.find('.', 4);  // "blk.0.attn_q.weight"
  const std::string layer = gguf_name.substr(4, dot - 4);
  const std::string part = gguf_name.substr(dot + 1, gguf_name.rfind('.') - dot - 1);
  return "model.layers." + layer + "." + kParts.at(part) + ".weight";
}

/// GGUF stores the rotated rows of a head as neighbours, (0, d/2, 1, d/2 + 1, ...).
std::vector<float> interleave_heads(const std::vector<float>& values, size_t cols, size_t dim) {
  std::vector<float> result(values.size());
  for (size_t row = 0; row < values.size() / cols; ++row) {
    const size_t in_head = row % dim;
    const size_t source = row - in_head + in_head / 2 + (in_head % 2) * dim / 2;
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(source * cols), cols,
                result.begin() + static_cast<std::ptrdiff_t>(row * cols));
  }
  return result;
}

/// The reference's tiny Llama as a GGUF file.
class GoldenLlama {
 public:
  GoldenLlama() {
    const auto directory = testing::golden_directory() / "tiny-llama";
    const auto tensors = testing::read_safetensors(directory / "model.safetensors");
    testing::TinyModel tiny;
    tiny.layers = 2;
    tiny.width = 128;
    tiny.query_heads = 4;
    tiny.kv_heads = 2;
    tiny.head_dim = 32;
    tiny.ffn_width = 160;
    tiny.vocabulary = 512;
    tiny.edit_tensor = [&](testing::TinyTensor& tensor) {
      tensor.values = tensors.at(source_name(tensor.name)).values;
      if (tensor.name.find("attn_q.") != std::string::npos ||
          tensor.name.find("attn_k.") != std::string::npos) {
        tensor.values = interleave_heads(tensor.values, tensor.cols, tiny.head_dim);
      }
      return true;
    };
    tiny.write(folder_.file("tiny-llama.gguf"));
  }
  [[nodiscard]] std::string path() const { return folder_.file("tiny-llama.gguf"); }

 private:
  testing::TemporaryFolder folder_;
};

TEST(GoldenEndToEndTest, LogitsTokensAndKeptPositionsEqualTheReference) {
  size_t run = 0;
  std::optional<GoldenLlama> llama;
  std::optional<Model> model;
  for (GoldenCase& golden : testing::golden_cases()) {
    if (!golden.name().starts_with("e2e.")) continue;
    CacheRequest request;
    if (golden.method() == "full") {
      request.options = default_options("full");
    } else {
      std::string reason;
      const auto options = testing::golden_options(golden, reason);
      if (!options) {
        std::printf("SKIPPED %s: %s\n", golden.name().c_str(), reason.c_str());
        continue;
      }
      request.options = *options;
    }
    SCOPED_TRACE(golden.name());
    golden.load();
    if (!model) {
      llama.emplace();
      model.emplace(llama->path());
    }
    Engine engine(*model);
    const std::vector<int32_t>& prompt = golden.ints("ids");
    request.kv_type = KvType::kF32;
    request.keep_selections = true;
    const std::vector<float> first = engine.prefill(prompt, {&request, 1});

    for (size_t layer = 0; layer < 2; ++layer) {
      const std::string name = "keep_layer" + std::to_string(layer);
      if (!golden.has(name)) continue;
      const auto& expected = golden.ints(name);
      const size_t heads = golden.shape(name)[0];
      const size_t kept = golden.shape(name)[1];
      ASSERT_EQ(request.selections[layer].keep.size(), heads);
      for (size_t h = 0; h < heads; ++h) {
        const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(h * kept);
        const std::vector<int32_t> rows(begin, begin + static_cast<std::ptrdiff_t>(kept));
        EXPECT_EQ(request.selections[layer].keep[h], rows) << name << " head " << h;
      }
    }

    const Matrix<const float> logits = golden.matrix("logits");
    const std::vector<int32_t>& tokens = golden.ints("tokens");
    std::span<const float> ours = first;
    for (size_t step = 0; step < logits.rows; ++step) {
      float worst = 0;
      for (size_t v = 0; v < logits.cols; ++v) {
        worst = std::max(worst, std::abs(ours[v] - logits.row(step)[v]));
      }
      EXPECT_LE(worst, 1e-3F) << "logits at step " << step;
      const auto best = std::max_element(ours.begin(), ours.end()) - ours.begin();
      ASSERT_EQ(best, tokens[step]) << "greedy token at step " << step;
      if (step + 1 < logits.rows) ours = engine.decode(tokens[step], request.cache);
    }

    if (golden.has("prefill_logits")) {
      const Matrix<const float> rows = golden.matrix("prefill_logits");
      const std::vector<int32_t>& which = golden.ints("prefill_rows");
      engine.score(prompt, [&](size_t begin, Matrix<const float> block) {
        for (size_t i = 0; i < which.size(); ++i) {
          const auto row = static_cast<size_t>(which[i]);
          if (row < begin || row >= begin + block.rows) continue;
          for (size_t v = 0; v < rows.cols; ++v) {
            ASSERT_NEAR(block.row(row - begin)[v], rows.row(i)[v], 1e-3) << "row " << row;
          }
        }
      });
    }
    ++run;
  }
  EXPECT_GT(run, 0U) << "no end-to-end case was run";
  std::printf("%zu end-to-end golden cases\n", run);
}

}  // namespace
}  // namespace restkv
