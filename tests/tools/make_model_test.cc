// Models with random weights must be what libllama expects of each family, and must behave like
// models: finite logits that tell tokens apart, and the same file from the same seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/threads.h"
#include "make_model/first_layers.h"
#include "make_model/presets.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "support/llama_reference.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::LlamaReference;
using ::restkv::testing::TemporaryFolder;

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

double deviation(std::span<const float> values) {
  double sum = 0;
  double squares = 0;
  for (const float v : values) {
    sum += v;
    squares += static_cast<double>(v) * v;
  }
  const double mean = sum / static_cast<double>(values.size());
  return std::sqrt(squares / static_cast<double>(values.size()) - mean * mean);
}

std::vector<int32_t> tokens(size_t count) {
  std::vector<int32_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int32_t>((i * 7919 + 300) % 1000);
  return ids;
}

/// Every published shape, made quick: one repetition of its layers' pattern, few tokens.
RandomModel shortened(RandomModel model) {
  model.vocabulary = 1024;
  if (model.width > 256) {
    const bool alternates = model.architecture == "gemma2" || model.architecture == "gpt-oss";
    model.layers = model.architecture == "gemma3" ? 6 : alternates ? 2 : 1;
    model.ffn_width = 1024;
    if (model.experts != 0) {
      model.experts = 8;
      model.experts_used = 2;
      model.expert_width = model.expert_width != 0 ? 512 : 0;
    }
    model.type = GGML_TYPE_Q4_0;
  }
  return model;
}

class MakeModelShape : public ::testing::TestWithParam<std::string> {};

TEST_P(MakeModelShape, IsAModelToLibllama) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  RandomModel model = shortened(find_preset(GetParam()));
  model.tokenizer = testing::test_model_path();
  model.write(path);
  EXPECT_GE(std::filesystem::file_size(path), model.size().bytes);
  LlamaReference reference(path);
  EXPECT_EQ(reference.vocabulary(), model.vocabulary);
  const std::vector<int32_t> prompt = tokens(8);
  reference.feed(prompt);
  std::vector<float> before;
  size_t repeated = 0;
  for (size_t i = 0; i < prompt.size(); ++i) {
    const std::span<const float> logits = reference.logits(i);
    ASSERT_TRUE(
        std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
    EXPECT_GT(deviation(logits), 1.5);
    EXPECT_LT(deviation(logits), 6);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    repeated += best == prompt[i] ? 1 : 0;
    std::vector<float> change(logits.begin(), logits.end());
    for (size_t v = 0; v < before.size(); ++v) change[v] -= before[v];
    EXPECT_GT(deviation(change), 1) << "the tokens before position " << i << " do not matter";
    before.assign(logits.begin(), logits.end());
  }
  EXPECT_LT(repeated, prompt.size() / 2) << "the likeliest token is the one just read";
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.emplace_back(preset.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Presets, MakeModelShape, ::testing::ValuesIn(preset_names()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace_if(
                               name.begin(), name.end(),
                               [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
                           return name;
                         });

RandomModel small() {
  RandomModel model = find_preset("tiny-llama");
  model.layers = 1;
  model.tokenizer = testing::test_model_path();
  return model;
}

TEST(MakeModel, IsTheSameFileFromTheSameSeedWithAnyNumberOfThreads) {
  const TemporaryFolder folder;
  RandomModel model = small();
  model.type = GGML_TYPE_Q4_K;
  const int threads = num_threads();
  set_num_threads(1);
  model.write(folder.file("one"));
  set_num_threads(3);
  model.write(folder.file("three"));
  model.seed = 2;
  model.write(folder.file("other"));
  set_num_threads(threads);
  const std::string bytes = read_bytes(folder.file("one"));
  EXPECT_EQ(bytes, read_bytes(folder.file("three")));
  const std::string other = read_bytes(folder.file("other"));
  ASSERT_EQ(bytes.size(), other.size());
  EXPECT_NE(bytes, other);
}

TEST(MakeModel, WritesEveryTypeOfWeights) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  RandomModel model = small();
  model.ffn_width = 256;
  model.vocabulary = 512;
  for (const ggml_type type : weight_types()) {
    SCOPED_TRACE(ggml_type_name(type));
    // ggml searches for these for seconds.
    const std::array slow{GGML_TYPE_IQ1_S, GGML_TYPE_IQ1_M, GGML_TYPE_IQ2_S, GGML_TYPE_IQ2_XS};
    if (std::find(slow.begin(), slow.end(), type) != slow.end()) continue;
    model.type = type;
    model.write(path);
    LlamaReference reference(path, {.context = 64});
    reference.feed(tokens(2));
    EXPECT_TRUE(std::isfinite(reference.logits(1).front()));
  }
}

TEST(MakeModel, CutsAndFillsUpTheVocabulary) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  RandomModel model = small();
  for (const size_t vocabulary : {512, 2000, 49152, 50000}) {
    model.vocabulary = vocabulary;
    model.write(path);
    const LlamaReference reference(path, {.context = 64});
    EXPECT_EQ(reference.vocabulary(), vocabulary);
  }
  model.vocabulary = 0;  // the tokenizer's own
  model.write(path);
  EXPECT_EQ(LlamaReference(path, {.context = 64}).vocabulary(), 49152U);
}

TEST(MakeModel, EncodesTextWithACutVocabulary) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  RandomModel model = small();
  model.write(path);
  const Tokenizer tokenizer(path);
  const std::string text = "The keeper of the lighthouse wrote 42 letters.\n";
  const std::vector<int32_t> ids = tokenizer.encode(text, false, false);
  EXPECT_LT(*std::max_element(ids.begin(), ids.end()), 1024);
  EXPECT_LT(ids.size(), text.size()) << "no merge is left";
  EXPECT_EQ(tokenizer.decode(ids), text);
}

template <class Write>
Error error_of(const Write& write) {
  try {
    write();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return {ErrorCode::kIo, ""};
}

void expect_error(const Error& error, ErrorCode code, const std::string& part) {
  EXPECT_EQ(error.code(), code);
  EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
}

TEST(MakeModel, SaysWhatCannotBe) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  RandomModel model = small();
  const auto write = [&] { model.write(path); };
  model.width = 64;
  model.type = GGML_TYPE_Q4_K;
  expect_error(error_of(write), ErrorCode::kInvalidArgument, "blocks of 256");
  model.type = GGML_TYPE_Q8_K;
  expect_error(error_of(write), ErrorCode::kInvalidArgument, "q8_K");
  model.type = GGML_TYPE_I32;
  expect_error(error_of(write), ErrorCode::kInvalidArgument, "i32");
  model = small();
  model.architecture = "mamba";
  expect_error(error_of(write), ErrorCode::kInvalidArgument, "known: llama, ");
  model = small();
  model.tokenizer = folder.file("absent.gguf");
  expect_error(error_of(write), ErrorCode::kInput, "absent.gguf");
  expect_error(error_of([] { find_preset("GPT-5"); }), ErrorCode::kInvalidArgument, "tiny-gemma3");
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(MakeModel, LeavesNothingBehindWhenStopped) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  small().write(path);
  const std::string before = read_bytes(path);
  RandomModel model = small();
  model.seed = 9;
  size_t calls = 0;
  const Error error =
      error_of([&] { model.write(path, [&](double, std::string_view) { return ++calls < 3; }); });
  EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  EXPECT_EQ(read_bytes(path), before);
  const auto files = std::filesystem::directory_iterator(std::filesystem::path(path).parent_path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST(FirstLayers, AreThoseOfTheWholeModel) {
  const TemporaryFolder folder;
  RandomModel model = small();
  model.layers = 4;
  model.tokenizer = testing::test_model_path();
  model.write(folder.file("whole.gguf"));
  write_first_layers(folder.file("whole.gguf"), 2, folder.file("part.gguf"));
  // The same, made the other way round: by never writing the last two.
  model.edit_metadata = [](gguf_context* gguf) { gguf_set_val_u32(gguf, "llama.block_count", 2); };
  model.edit_tensor = [](RandomTensor& tensor) {
    return !tensor.name.starts_with("blk.2.") && !tensor.name.starts_with("blk.3.");
  };
  model.write(folder.file("expected.gguf"));

  LlamaReference part(folder.file("part.gguf"));
  LlamaReference expected(folder.file("expected.gguf"));
  part.feed(tokens(8));
  expected.feed(tokens(8));
  EXPECT_EQ(std::vector<float>(part.logits(7).begin(), part.logits(7).end()),
            std::vector<float>(expected.logits(7).begin(), expected.logits(7).end()));
  EXPECT_EQ(Model(folder.file("part.gguf")).config().name, model.name + ", 2 of 4 layers");
}

TEST(FirstLayers, SaysWhatCannotBe) {
  const TemporaryFolder folder;
  const std::string whole = folder.file("whole.gguf");
  const std::string path = folder.file("part.gguf");
  small().write(whole);
  const auto take = [&](const std::string& source, size_t layers) {
    return error_of([&] { write_first_layers(source, layers, path); });
  };
  expect_error(take(whole, 0), ErrorCode::kInvalidArgument, "choose 1 to");
  expect_error(take(whole, 99), ErrorCode::kInvalidArgument, "layers, not 99");
  expect_error(take(folder.file("absent.gguf"), 1), ErrorCode::kInput, "absent.gguf");
  std::filesystem::resize_file(whole, std::filesystem::file_size(whole) - 4096);
  expect_error(take(whole, 1), ErrorCode::kInput, "whole.gguf");
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(MakeModelProgram, WritesWhatWasAskedForAndExplainsMistakes) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  const auto run = [&](const std::string& arguments) {
    const std::string command =
        std::string(RESTKV_MAKE_MODEL) + " " + arguments + " >" + folder.file("out") + " 2>&1";
    const int status = std::system(command.c_str());  // NOLINT: a shell is what users have
    return std::make_pair(WEXITSTATUS(status), read_bytes(folder.file("out")));
  };
  const auto [status, out] = run("tiny-qwen2 " + path + " --type q6_k --layers 1 --tokenizer " +
                                 testing::test_model_path());
  EXPECT_EQ(status, 0) << out;
  EXPECT_NE(out.find("1024 tokens of"), std::string::npos) << out;
  EXPECT_EQ(LlamaReference(path, {.context = 64}).vocabulary(), 1024U);

  EXPECT_EQ(run("--help").first, 0);
  const auto [listed, text] = run("--list");
  EXPECT_EQ(listed, 0);
  for (const Preset& preset : presets()) {
    EXPECT_NE(text.find(preset.name), std::string::npos) << preset.name;
  }
  EXPECT_EQ(run(path + " " + folder.file("first.gguf") + " --layers 1").first, 0);
  EXPECT_EQ(run(path + " " + folder.file("first.gguf")).first, 2);
  EXPECT_EQ(run("").first, 2);
  EXPECT_EQ(run("tiny-llama").first, 2);
  EXPECT_EQ(run("tiny-lama " + path).first, 2);
  EXPECT_EQ(run("tiny-llama " + path + " --type Q99").first, 2);
  EXPECT_EQ(run("tiny-llama " + path + " --layers 0").first, 2);
  EXPECT_EQ(run("tiny-llama /nonexistent/x.gguf").first, 1);
  EXPECT_EQ(run("tiny-llama " + path + " --tokenizer /nonexistent").first, 1);
}

}  // namespace
}  // namespace restkv
