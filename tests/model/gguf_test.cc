// Files that are not what they claim: each must be refused with an Error that names it.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <string>

#include "restkv/error.h"
#include "restkv/model.h"
#include "support/memory_file.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::MemoryFile;
using ::restkv::testing::smallest_model;
using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::TinyModel;
using ::restkv::testing::TinyTensor;

void write_bytes(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.flush()) << path;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Where the tensors of a valid file begin.
size_t header_bytes(const std::string& path) {
  const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
      gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  return gguf_get_data_offset(gguf.get());
}

/// Loads `path`; returns the error message, or "" if it loads. Any other exception escapes and
/// fails the test, and so does a message that does not name the file.
std::string load_error(const std::string& path) {
  try {
    const Model model(path);
    return "";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
    EXPECT_TRUE(e.code() == ErrorCode::kInput || e.code() == ErrorCode::kUnsupported) << e.what();
    return e.what();
  }
}

class Gguf : public ::testing::Test {
 protected:
  /// The error of a model that deviates from `smallest_model()`.
  std::string error_of(const TinyModel& model) const {
    model.write(path_);
    return load_error(path_);
  }
  std::string error_with_integer(const char* key, uint32_t value) const {
    TinyModel model = smallest_model();
    model.edit_metadata = [&](gguf_context* gguf) { gguf_set_val_u32(gguf, key, value); };
    return error_of(model);
  }
  std::string error_with_number(const char* key, float value) const {
    TinyModel model = smallest_model();
    model.edit_metadata = [&](gguf_context* gguf) { gguf_set_val_f32(gguf, key, value); };
    return error_of(model);
  }
  /// The error of a model one of whose tensors is changed; `edit` returns false to leave it out.
  std::string error_with_tensor(const std::string& name,
                                const std::function<bool(TinyTensor&)>& edit) const {
    TinyModel model = smallest_model();
    model.edit_tensor = [&](TinyTensor& tensor) { return tensor.name != name || edit(tensor); };
    return error_of(model);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("model.gguf");
  MemoryFile damaged_;
};

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

TEST_F(Gguf, LoadsWhatTheOtherTestsDamage) {
  TinyModel description = smallest_model();
  description.write(path_);
  const Model model(path_);
  EXPECT_EQ(model.path(), path_);
  EXPECT_EQ(model.config().architecture, "llama");
  EXPECT_EQ(model.config().layers, 1U);
  EXPECT_EQ(model.config().width, 32U);
  EXPECT_EQ(model.config().query_heads, 4U);
  EXPECT_EQ(model.config().kv_heads, 2U);
  EXPECT_EQ(model.config().key_dim, 8U);
  EXPECT_EQ(model.config().ffn_width, 32U);
  EXPECT_EQ(model.config().vocabulary, 16U);
  EXPECT_EQ(model.config().context_length, 4096U);
  EXPECT_EQ(model.config().kv_bytes(1), 1U * 2 * (8 + 8) * 2);
  EXPECT_EQ(model.config().weight_types, "f32");
}

TEST_F(Gguf, RefusesWhatIsNoModelFile) {
  expect_contains(load_error(folder_.file("absent.gguf")), "No such file");
  expect_contains(load_error(folder_.file("")), "not a regular file");
  write_bytes(path_, "");
  expect_contains(load_error(path_), "is empty");
  write_bytes(path_, "GGU");
  expect_contains(load_error(path_), "GGUF");
  write_bytes(path_, "The quick brown fox jumps over the lazy dog.\n");
  expect_contains(load_error(path_), "does not begin with the letters GGUF");
  write_bytes(path_, "GGUF");
  expect_contains(load_error(path_), "is damaged or incomplete (4 bytes)");
}

TEST_F(Gguf, RefusesTruncatedFiles) {
  smallest_model().write(path_);
  const std::string whole = read_bytes(path_);
  const size_t header = header_bytes(path_);
  ASSERT_GT(header, 500U);
  ASSERT_GT(whole.size(), header + 1000);
  std::mt19937 random(1);
  const auto refuse_cut_at = [&](size_t size) {
    damaged_.write(std::string_view(whole).substr(0, size));
    EXPECT_NE(load_error(damaged_.path()), "") << "cut at byte " << size << " of " << whole.size();
  };
  for (int i = 0; i < 200; ++i) refuse_cut_at(random() % header);
  for (int i = 0; i < 50; ++i) refuse_cut_at(header + random() % (whole.size() - header));
}

TEST_F(Gguf, SaysWhereAFileEnds) {
  smallest_model().write(path_);
  const std::string whole = read_bytes(path_);
  damaged_.write(std::string_view(whole).substr(0, 20));
  expect_contains(load_error(damaged_.path()), "the header needs 8 bytes at byte 16");
  damaged_.write(std::string_view(whole).substr(0, whole.find("llama.block_count") + 19));
  expect_contains(load_error(damaged_.path()), "'llama.block_count' needs 4 bytes at byte");
  damaged_.write(std::string_view(whole).substr(0, whole.find("blk.0.attn_k.weight") + 25));
  expect_contains(load_error(damaged_.path()), "tensor 'blk.0.attn_k.weight' needs 8 bytes");
  damaged_.write(std::string_view(whole).substr(0, whole.size() - 40));
  expect_contains(load_error(damaged_.path()),
                  "tensor 'blk.0.ffn_down.weight' ends at byte " + std::to_string(whole.size()));
}

TEST_F(Gguf, RefusesAPartWhoseNameDoesNotTell) {
  expect_contains(error_with_integer("split.count", 3),
                  "is part 1 of 3 of a model ('split.no', 'split.count'), but its name does not "
                  "end with -00001-of-00003.gguf");
  EXPECT_EQ(error_with_integer("split.count", 1), "");
}

TEST_F(Gguf, RefusesRandomBytesBehindAValidBeginning) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes("GGUF\3\0\0\0", 8);
    const auto append = [&](uint64_t value) {
      for (int b = 0; b < 8; ++b) bytes.push_back(static_cast<char>(value >> (8 * b)));
    };
    // Half of the files count few tensors and keys, so that the reader gets further into them.
    const bool few = i % 2 == 0;
    append(few ? random() % 4 : random());
    append(few ? random() % 4 : random());
    // The length of the first key, likewise.
    if (few) append(random() % 16);
    const size_t words = random() % 64;
    for (size_t w = 0; w < words; ++w) append(random());
    damaged_.write(bytes);
    EXPECT_NE(load_error(damaged_.path()), "") << "file " << i;
  }
}

TEST_F(Gguf, SurvivesASingleWrongByteAnywhereInTheHeader) {
  smallest_model().write(path_);
  const std::string whole = read_bytes(path_);
  const size_t header = header_bytes(path_);
  std::mt19937 random(3);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = whole;
    const size_t position = random() % header;
    bytes[position] = static_cast<char>(bytes[position] ^ static_cast<char>(1 + random() % 255));
    SCOPED_TRACE("byte " + std::to_string(position));
    damaged_.write(bytes);
    if (!load_error(damaged_.path()).empty()) ++refused;
  }
  // Most bytes are names and sizes that matter; some (general.name, alignment padding) do not.
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 2000);
}

TEST_F(Gguf, RefusesUnknownArchitectures) {
  TinyModel model = smallest_model();
  model.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "general.architecture", "mamba");
  };
  const std::string error = error_of(model);
  expect_contains(error, "'mamba' is not supported");
  expect_contains(error, "llama");
  expect_contains(error, "Nothing in the file shows what it needs besides");
}

TEST_F(Gguf, SaysWhatAnUnknownArchitectureNeeds) {
  const auto error = [&](const char* architecture, const std::function<void(gguf_context*)>& edit,
                         const char* tensor = nullptr) {
    TinyModel model = smallest_model();
    model.edit_metadata = [&](gguf_context* gguf) {
      gguf_set_val_str(gguf, "general.architecture", architecture);
      edit(gguf);
    };
    if (tensor != nullptr) {
      model.edit_tensor = [&](TinyTensor& each) {
        if (each.name == "blk.0.ffn_gate.weight") each.name = tensor;
        return true;
      };
    }
    return error_of(model);
  };
  const auto none = [](gguf_context*) {};
  expect_contains(error("newmoe",
                        [](gguf_context* gguf) {
                          gguf_set_val_u32(gguf, "newmoe.expert_count", 8);
                          gguf_set_val_u32(gguf, "newmoe.ssm.state_size", 16);
                          gguf_set_val_u32(gguf, "newmoe.nextn_predict_layers", 0);
                        }),
                  "This model needs a recurrent state (state space, gated DeltaNet)");
  expect_contains(error("newgpt", none, "blk.0.attn_gate.weight"),
                  "This model needs gates of attention outputs");
  expect_contains(error("phi2", none),
                  "This model needs attention and feed-forward network side by side");
  const std::string text = error(
      "newhead", [](gguf_context* gguf) { gguf_set_val_str(gguf, "newhead.ssm.kind", "text"); });
  expect_contains(text, "This model needs a recurrent state");
}

TEST_F(Gguf, RefusesFeaturesItCannotRun) {
  expect_contains(error_with_integer("llama.expert_group_count", 8), "groups of experts");
  TinyModel model = smallest_model();
  model.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "llama.rope.scaling.type", "dynamic");
  };
  expect_contains(error_of(model), "'llama.rope.scaling.type' is 'dynamic'");
}

TEST_F(Gguf, RefusesImpossibleSizes) {
  expect_contains(error_with_integer("llama.attention.head_count", 0), "is 0; expected 1 to");
  expect_contains(error_with_integer("llama.attention.head_count_kv", 0), "is 0; expected 1 to");
  expect_contains(error_with_integer("llama.attention.head_count_kv", 3),
                  "4 query heads cannot share 3 KV heads evenly");
  expect_contains(error_with_integer("llama.block_count", 0), "is 0; expected 1 to");
  expect_contains(error_with_integer("llama.block_count", 4096), "has no tensor 'blk.1.");
  expect_contains(error_with_integer("llama.block_count", 100000), "is 100000; expected 1 to");
  expect_contains(error_with_integer("llama.block_count", 0xFFFFFFFFU), "4294967295");
  expect_contains(error_with_integer("llama.embedding_length", 33), "metadata ask for 33 x 16");
  expect_contains(error_with_integer("llama.feed_forward_length", 1U << 30U), "expected 1 to");
  expect_contains(error_with_integer("llama.attention.value_length", 4), "metadata ask for 32 x 8");
  expect_contains(error_with_integer("llama.rope.dimension_count", 7),
                  "is 7; expected an even number");
  expect_contains(error_with_integer("llama.rope.dimension_count", 10),
                  "is 10; expected an even number up to 8");
  expect_contains(error_with_integer("llama.context_length", 0), "is 0; expected 1 to");
  expect_contains(error_with_integer("llama.vocab_size", 0), "is 0; expected 1 to");
  expect_contains(error_with_number("llama.block_count", 1.5F), "whole number");
  expect_contains(error_with_number("llama.block_count", NAN), "is nan; expected 1");
}

TEST_F(Gguf, RefusesImpossibleConstants) {
  const char* epsilon = "llama.attention.layer_norm_rms_epsilon";
  expect_contains(error_with_number(epsilon, NAN), epsilon);
  expect_contains(error_with_number(epsilon, -1.0F), epsilon);
  expect_contains(error_with_number("llama.attention.scale", INFINITY), "llama.attention.scale");
  expect_contains(error_with_number("llama.rope.freq_base", 0.0F), "llama.rope.freq_base");
  expect_contains(error_with_number("llama.rope.freq_base", INFINITY), "llama.rope.freq_base");
}

TEST_F(Gguf, RefusesMetadataOfTheWrongType) {
  TinyModel model = smallest_model();
  model.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "llama.block_count", "two");
  };
  expect_contains(error_of(model), "'llama.block_count' is not a number");
  model.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_u32(gguf, "general.architecture", 1);
  };
  expect_contains(error_of(model), "'general.architecture' is not a string");
  model.edit_metadata = [](gguf_context* gguf) {
    const uint32_t counts[] = {4, 4};
    gguf_set_arr_data(gguf, "llama.attention.head_count", GGUF_TYPE_UINT32, counts, 2);
  };
  expect_contains(error_of(model), "'llama.attention.head_count' has 2 entries for 1 layers");
  model.edit_metadata = [](gguf_context* gguf) { gguf_remove_key(gguf, "llama.block_count"); };
  expect_contains(error_of(model), "has no 'llama.block_count'");
}

TEST_F(Gguf, RefusesWrongTensors) {
  const auto leave_out = [](TinyTensor&) { return false; };
  for (const char* name :
       {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
        "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
        "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
        "blk.0.ffn_down.weight"}) {
    expect_contains(error_with_tensor(name, leave_out), std::string("has no tensor '") + name);
    const auto cut_short = [](TinyTensor& tensor) {
      tensor.cols /= 2;
      return true;
    };
    const std::string error = error_with_tensor(name, cut_short);
    expect_contains(error, std::string("tensor '") + name + "' is 16 x");
    expect_contains(error, "metadata ask for 32 x");
  }
  // Without its own table the model unembeds with the embeddings: no error.
  EXPECT_EQ(error_with_tensor("output.weight", leave_out), "");
}

TEST_F(Gguf, RefusesNormWeightsThatAreNotNumbers) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const char* name :
         {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"}) {
      const std::string error = error_with_tensor(name, [&](TinyTensor& tensor) {
        tensor.values.back() = bad;
        return true;
      });
      expect_contains(error, std::string("tensor '") + name + "' holds NaN or infinity");
    }
  }
}

}  // namespace
}  // namespace restkv
