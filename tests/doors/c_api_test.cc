// restkv.h from the side of its callers: what they may get wrong, and what they may rely on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "restkv.h"
#include "restkv/compress.h"
#include "support/text_model.h"

namespace restkv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string last_error() { return restkv_last_error(); }

/// A struct with its size and defaults.
template <class Struct>
Struct sized() {
  Struct s{};
  s.size = sizeof s;
  return s;
}

class CApiTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    text_model = std::make_unique<testing::TextModel>(2048);
    auto options = sized<restkv_model_options>();
    options.threads = 2;
    options.linear = "f32";
    ASSERT_EQ(restkv_model_open(text_model->model.path().c_str(), &options, &model), RESTKV_OK)
        << last_error();
  }
  static void TearDownTestSuite() {
    restkv_model_free(model);
    text_model.reset();
  }

  struct Sequence {
    explicit Sequence(const char* method = nullptr, const char* budget = nullptr) {
      auto options = sized<restkv_sequence_options>();
      options.method = method;
      options.budget = budget;
      EXPECT_EQ(restkv_sequence_new(model, &options, &handle), RESTKV_OK) << last_error();
    }
    ~Sequence() { restkv_sequence_free(handle); }
    Sequence(const Sequence&) = delete;
    Sequence& operator=(const Sequence&) = delete;
    void ask(const std::string& text) const {
      EXPECT_EQ(restkv_sequence_ask(handle, text.data(), text.size(), nullptr, nullptr), RESTKV_OK)
          << last_error();
    }
    restkv_sequence* handle = nullptr;
  };

  static std::unique_ptr<testing::TextModel> text_model;
  static restkv_model* model;
};
std::unique_ptr<testing::TextModel> CApiTest::text_model;
restkv_model* CApiTest::model = nullptr;

TEST_F(CApiTest, FailuresAreCodesWithAMessage) {
  restkv_model* none = nullptr;
  EXPECT_EQ(restkv_model_open("/nowhere/model.gguf", nullptr, &none), RESTKV_INPUT);
  EXPECT_EQ(none, nullptr);
  EXPECT_THAT(last_error(), HasSubstr("/nowhere/model.gguf"));
  auto options = sized<restkv_model_options>();
  options.linear = "f17";
  EXPECT_EQ(restkv_model_open("x", &options, &none), RESTKV_INVALID_ARGUMENT);
  EXPECT_THAT(last_error(), HasSubstr("f17"));
  options = sized<restkv_model_options>();
  options.rope_factor = 2;
  EXPECT_EQ(restkv_model_open("x", &options, &none), RESTKV_INVALID_ARGUMENT);
  EXPECT_THAT(last_error(), HasSubstr("rope_scaling"));
  std::string elsewhere = "?";
  std::thread([&] { elsewhere = last_error(); }).join();
  EXPECT_EQ(elsewhere, "");  // messages are those of a thread
}

TEST_F(CApiTest, NullIsRefusedByName) {
  EXPECT_EQ(restkv_model_open(nullptr, nullptr, nullptr), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(last_error(), "path is NULL");
  EXPECT_EQ(restkv_sequence_new(nullptr, nullptr, nullptr), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(restkv_sequence_ask(nullptr, "", 0, nullptr, nullptr), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(restkv_sequence_generate(nullptr, nullptr, nullptr), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(restkv_select(nullptr, nullptr, nullptr, nullptr), RESTKV_INVALID_ARGUMENT);
  restkv_tokens tokens{};
  EXPECT_EQ(restkv_tokenize(model, nullptr, 5, 0, &tokens), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(last_error(), "text is NULL");
  const Sequence sequence;
  EXPECT_EQ(restkv_sequence_append(sequence.handle, nullptr, 3, nullptr, nullptr),
            RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(restkv_batch_append(nullptr, nullptr, 2), RESTKV_INVALID_ARGUMENT);
  restkv_model_free(nullptr);
  restkv_sequence_free(nullptr);
  restkv_selection_free(nullptr);
  restkv_factor_free(nullptr);
  restkv_tokens_free(nullptr);
  restkv_text_free(nullptr);
  restkv_generation_free(nullptr);
}

TEST_F(CApiTest, StructsMayBeOfOtherVersions) {
  restkv_model_info info{};
  EXPECT_EQ(restkv_model_get_info(model, &info), RESTKV_INVALID_ARGUMENT);
  EXPECT_THAT(last_error(), HasSubstr("sizeof(restkv_model_info)"));

  // Older: without the fields behind `layers`.
  info.size = offsetof(restkv_model_info, query_heads);
  info.query_heads = 77;
  EXPECT_EQ(restkv_model_get_info(model, &info), RESTKV_OK);
  EXPECT_EQ(info.layers, text_model->model.config().layers);
  EXPECT_EQ(info.query_heads, 77U);
  EXPECT_EQ(info.size, offsetof(restkv_model_info, query_heads));

  // Newer: a field that this version does not know is refused unless it has its default.
  struct Newer {
    restkv_sequence_options known;
    size_t future;
  } newer{};
  newer.known.size = sizeof newer;
  restkv_sequence* sequence = nullptr;
  EXPECT_EQ(restkv_sequence_new(model, &newer.known, &sequence), RESTKV_OK) << last_error();
  restkv_sequence_free(std::exchange(sequence, nullptr));
  newer.future = 1;
  EXPECT_EQ(restkv_sequence_new(model, &newer.known, &sequence), RESTKV_UNSUPPORTED);
  EXPECT_THAT(last_error(), HasSubstr("newer library"));
}

TEST_F(CApiTest, ModelsTellTheirSizes) {
  auto info = sized<restkv_model_info>();
  ASSERT_EQ(restkv_model_get_info(model, &info), RESTKV_OK);
  const ModelConfig& config = text_model->model.config();
  EXPECT_EQ(info.kv_heads, config.kv_heads);
  EXPECT_EQ(info.vocabulary, config.vocabulary);
  EXPECT_EQ(info.context_length, 2048U);
  EXPECT_EQ(info.fingerprint, config.fingerprint);
  EXPECT_EQ(info.threads, 2);
  EXPECT_EQ(info.has_chat_template, 1);
  EXPECT_STREQ(restkv_version(), "0.1.0");
}

TEST_F(CApiTest, TextsBecomeTokensAndTextsAgain) {
  const std::string text = "A cat <|im_end|> sat.";
  restkv_tokens tokens{};
  ASSERT_EQ(restkv_tokenize(model, text.data(), text.size(), 0, &tokens), RESTKV_OK);
  restkv_text again{};
  ASSERT_EQ(restkv_detokenize(model, tokens.data, tokens.count, 0, &again), RESTKV_OK);
  EXPECT_EQ(std::string(again.data, again.bytes), text);
  const size_t plain = tokens.count;
  restkv_tokens_free(&tokens);
  restkv_tokens_free(&tokens);
  restkv_text_free(&again);
  ASSERT_EQ(restkv_tokenize(model, text.data(), text.size(), RESTKV_PARSE_SPECIAL, &tokens),
            RESTKV_OK);
  EXPECT_LT(tokens.count, plain);
  tokens.data[0] = -5;
  EXPECT_EQ(restkv_detokenize(model, tokens.data, tokens.count, 0, &again),
            RESTKV_INVALID_ARGUMENT);
  restkv_tokens_free(&tokens);
  EXPECT_EQ(restkv_tokenize(model, "x", 1, 64, &tokens), RESTKV_INVALID_ARGUMENT);
  ASSERT_EQ(restkv_tokenize(model, "", 0, 0, &tokens), RESTKV_OK);
  EXPECT_EQ(tokens.count, 0U);

  const restkv_message messages[] = {{"system", "Be brief."}, {"user", "Who?"}};
  ASSERT_EQ(restkv_format_chat(model, messages, 2, &again, &tokens), RESTKV_OK);
  EXPECT_THAT(std::string(again.data), HasSubstr("Be brief."));
  EXPECT_EQ(std::strlen(again.data), again.bytes);
  EXPECT_GT(tokens.count, 5U);
  restkv_text_free(&again);
  restkv_tokens_free(&tokens);
  const restkv_message nameless[] = {{nullptr, "Who?"}};
  EXPECT_EQ(restkv_format_chat(model, nameless, 1, &again, nullptr), RESTKV_INVALID_ARGUMENT);
}

TEST_F(CApiTest, AnswersAreStreamedAndHandedOver) {
  const Sequence sequence("snapkv", "64");
  sequence.ask("Count.");
  std::string streamed;
  auto options = sized<restkv_generation_options>();
  options.max_tokens = 6;
  options.user = &streamed;
  options.on_text = [](void* user, const char* text, size_t bytes) {
    EXPECT_EQ(std::strlen(text), bytes);
    static_cast<std::string*>(user)->append(text, bytes);
    return 0;
  };
  auto written = sized<restkv_generation>();
  ASSERT_EQ(restkv_sequence_generate(sequence.handle, &options, &written), RESTKV_OK)
      << last_error();
  EXPECT_EQ(std::string(written.text.data, written.text.bytes), streamed);
  EXPECT_EQ(written.tokens.count, 6U);
  EXPECT_EQ(written.finish, RESTKV_FINISH_LENGTH);
  EXPECT_GT(written.seconds, 0);
  restkv_generation_free(&written);
  EXPECT_EQ(written.text.data, nullptr);

  sequence.ask("Go on.");
  options.on_text = [](void*, const char*, size_t) { return 1; };
  ASSERT_EQ(restkv_sequence_generate(sequence.handle, &options, &written), RESTKV_OK);
  EXPECT_EQ(written.finish, RESTKV_FINISH_CANCELLED);
  restkv_generation_free(&written);

  sequence.ask("Go on.");
  options.sampling = "heat=1";
  EXPECT_EQ(restkv_sequence_generate(sequence.handle, &options, nullptr), RESTKV_INVALID_ARGUMENT);
  EXPECT_THAT(last_error(), HasSubstr("heat"));
  options.sampling = nullptr;
  const char* stops[] = {""};
  options.stops = stops;
  options.stop_count = 1;
  EXPECT_EQ(restkv_sequence_generate(sequence.handle, &options, nullptr), RESTKV_INVALID_ARGUMENT);
  options.stop_count = 0;
  EXPECT_EQ(restkv_sequence_generate(sequence.handle, &options, nullptr), RESTKV_OK);
}

TEST_F(CApiTest, CallbacksMayNotUseTheSequenceThatCallsThem) {
  const Sequence sequence;
  static restkv_status inside = RESTKV_OK;
  const auto reenter = [](void* user, double) {
    inside = restkv_sequence_compress(static_cast<restkv_sequence*>(user));
    return 0;
  };
  EXPECT_EQ(restkv_sequence_ask(sequence.handle, "Who?", 4, reenter, sequence.handle), RESTKV_OK);
  EXPECT_EQ(inside, RESTKV_INVALID_ARGUMENT);
}

TEST_F(CApiTest, PromptsCanBeInterrupted) {
  const Sequence sequence;
  const auto stop = [](void*, double) { return 1; };
  EXPECT_EQ(restkv_sequence_ask(sequence.handle, "Who?", 4, stop, nullptr), RESTKV_INTERRUPTED);
  auto stats = sized<restkv_sequence_stats>();
  ASSERT_EQ(restkv_sequence_get_stats(sequence.handle, &stats), RESTKV_OK);
  EXPECT_EQ(stats.tokens, 0U);
  sequence.ask("Who?");
}

TEST_F(CApiTest, SequencesAreForkedSavedLoadedAndCounted) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("document.rkv");
  const std::string text = testing::numbers_text(100, 1);
  const Sequence sequence("snapkv", "50%");
  ASSERT_EQ(restkv_sequence_read(sequence.handle, text.data(), text.size(), nullptr, nullptr),
            RESTKV_OK)
      << last_error();
  ASSERT_EQ(restkv_sequence_save(sequence.handle, path.c_str()), RESTKV_OK) << last_error();
  restkv_sequence* loaded = nullptr;
  ASSERT_EQ(restkv_sequence_load(model, path.c_str(), &loaded), RESTKV_OK) << last_error();
  restkv_sequence* fork = nullptr;
  ASSERT_EQ(restkv_sequence_fork(sequence.handle, &fork), RESTKV_OK);
  std::vector<std::vector<float>> logits;
  for (restkv_sequence* one : {loaded, fork}) {
    ASSERT_EQ(restkv_sequence_ask(one, "Who?", 4, nullptr, nullptr), RESTKV_OK) << last_error();
    logits.emplace_back(text_model->model.config().vocabulary);
    ASSERT_EQ(restkv_sequence_logits(one, logits.back().data(), logits.back().size()), RESTKV_OK);
    restkv_sequence_free(one);
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(restkv_sequence_logits(sequence.handle, logits[0].data(), 3), RESTKV_INVALID_ARGUMENT);

  auto stats = sized<restkv_sequence_stats>();
  ASSERT_EQ(restkv_sequence_get_stats(sequence.handle, &stats), RESTKV_OK);
  EXPECT_NEAR(stats.kept, static_cast<double>(stats.tokens) / 2, 0.51);
  EXPECT_LT(stats.kv_bytes, stats.full_kv_bytes);
  EXPECT_GT(stats.compress_seconds, 0);
  ASSERT_EQ(restkv_sequence_set_budget(sequence.handle, 40), RESTKV_OK) << last_error();
  ASSERT_EQ(restkv_sequence_compress(sequence.handle), RESTKV_OK) << last_error();
  ASSERT_EQ(restkv_sequence_get_stats(sequence.handle, &stats), RESTKV_OK);
  EXPECT_DOUBLE_EQ(stats.kept, 40);
  EXPECT_EQ(restkv_sequence_set_budget(sequence.handle, 1), RESTKV_INVALID_ARGUMENT);
}

TEST_F(CApiTest, BatchesWriteWhatSequencesWriteAlone) {
  const Sequence one;
  const Sequence two;
  one.ask("Who?");
  two.ask("When and where?");
  restkv_sequence* alone = nullptr;
  ASSERT_EQ(restkv_sequence_fork(two.handle, &alone), RESTKV_OK);
  auto options = sized<restkv_generation_options>();
  options.max_tokens = 5;
  auto expected = sized<restkv_generation>();
  ASSERT_EQ(restkv_sequence_generate(alone, &options, &expected), RESTKV_OK);
  restkv_sequence_free(alone);

  restkv_sequence* both[] = {one.handle, two.handle};
  restkv_generation written[] = {sized<restkv_generation>(), sized<restkv_generation>()};
  std::string streamed[2];
  const auto on_text = [](void* user, size_t number, const char* text, size_t bytes) {
    static_cast<std::string*>(user)[number].append(text, bytes);
    return 0;
  };
  ASSERT_EQ(restkv_batch_generate(both, 2, &options, on_text, streamed, written), RESTKV_OK)
      << last_error();
  EXPECT_STREQ(written[1].text.data, expected.text.data);
  EXPECT_EQ(streamed[0], written[0].text.data);
  EXPECT_EQ(streamed[1], written[1].text.data);
  for (restkv_generation& g : written) restkv_generation_free(&g);
  restkv_generation_free(&expected);

  restkv_sequence* twice[] = {one.handle, one.handle};
  EXPECT_EQ(restkv_batch_generate(twice, 2, &options, nullptr, nullptr, nullptr),
            RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(restkv_batch_generate(both, 0, &options, nullptr, nullptr, nullptr),
            RESTKV_INVALID_ARGUMENT);
  const Sequence bare;
  const int32_t tokens[] = {5, 6};
  ASSERT_EQ(restkv_sequence_append(bare.handle, tokens, 2, nullptr, nullptr), RESTKV_OK);
  ASSERT_EQ(restkv_batch_append(&bare.handle, tokens, 1), RESTKV_OK) << last_error();
  EXPECT_EQ(restkv_batch_append(both, tokens, 2), RESTKV_INVALID_ARGUMENT);
}

TEST_F(CApiTest, HandlesAreFreedInAnyOrder) {
  restkv_model* own = nullptr;
  ASSERT_EQ(restkv_model_open(text_model->model.path().c_str(), nullptr, &own), RESTKV_OK);
  restkv_sequence* sequence = nullptr;
  ASSERT_EQ(restkv_sequence_new(own, nullptr, &sequence), RESTKV_OK);
  restkv_model_free(own);
  EXPECT_EQ(restkv_sequence_ask(sequence, "Who?", 4, nullptr, nullptr), RESTKV_OK);
  restkv_sequence_free(sequence);
}

TEST_F(CApiTest, NoticesGoToTheLog) {
  std::vector<std::string> notices;
  const auto keep = [](void* user, const char* text) {
    static_cast<std::vector<std::string>*>(user)->emplace_back(text);
  };
  restkv_set_log(keep, &notices);
  auto options = sized<restkv_sequence_options>();
  options.method = "full";
  options.interval = 10;
  restkv_sequence* sequence = nullptr;
  ASSERT_EQ(restkv_sequence_new(model, &options, &sequence), RESTKV_OK);
  restkv_sequence_free(sequence);
  restkv_set_log(nullptr, nullptr);
  EXPECT_THAT(notices, ElementsAre(HasSubstr("no effect on method full")));
}

// ---- Arrays ------------------------------------------------------------------------------------

struct Arrays {
  std::vector<float> queries = std::vector<float>(4 * 32 * 8),
                     keys = std::vector<float>(2 * 100 * 8),
                     values = std::vector<float>(2 * 100 * 8), wo = std::vector<float>(32 * 32);
  restkv_layer layer{};

  Arrays() {
    unsigned seed = 1;
    for (auto* array : {&queries, &keys, &values, &wo}) {
      for (float& x : *array) {
        seed = seed * 1664525U + 1013904223U;
        x = static_cast<float>(seed >> 8U) / static_cast<float>(1U << 23U) - 1;
      }
    }
    layer.size = sizeof layer;
    layer.queries = {queries.data(), 4, 32, 8, 0, 0};
    layer.keys = {keys.data(), 2, 100, 8, 0, 0};
    layer.values = {values.data(), 2, 100, 8, 0, 0};
    layer.wo = wo.data();
    layer.width = 32;
  }
};

std::vector<std::vector<int32_t>> kept(const restkv_layer& layer, const char* method,
                                       const char* budget) {
  restkv_selection* selection = nullptr;
  EXPECT_EQ(restkv_select(&layer, method, budget, &selection), RESTKV_OK) << last_error();
  std::vector<std::vector<int32_t>> heads;
  for (size_t h = 0; h < restkv_selection_heads(selection); ++h) {
    size_t count = 0;
    const int32_t* positions = restkv_selection_positions(selection, h, &count);
    heads.emplace_back(positions, positions + count);
  }
  size_t count = 7;
  EXPECT_EQ(restkv_selection_positions(selection, heads.size(), &count), nullptr);
  EXPECT_EQ(count, 0U);
  restkv_selection_free(selection);
  return heads;
}

TEST(CApiArrayTest, SelectionsAreThoseOfTheLibrary) {
  const Arrays arrays;
  LayerObservation layer;
  layer.queries = {arrays.queries.data(), 4, 32, 8};
  layer.keys = {arrays.keys.data(), 2, 100, 8};
  layer.values = {arrays.values.data(), 2, 100, 8};
  const OutputFactor factor({arrays.wo.data(), 32, 32}, 4, 8);
  layer.output = &factor;
  CompressionOptions options = default_options("restkv");
  options.budget = 50;
  const auto expected = select_tokens(layer, options).keep;
  EXPECT_EQ(kept(arrays.layer, "restkv", "50"), expected);
  EXPECT_EQ(kept(arrays.layer, nullptr, "50%"), expected);
  EXPECT_EQ(kept(arrays.layer, "restkv:budget=50", nullptr), expected);
}

TEST(CApiArrayTest, ArraysMayHaveStridesAndAFactor) {
  const Arrays arrays;
  // [token, head, channel], as projections leave them.
  std::vector<float> moved(arrays.keys.size());
  for (size_t h = 0; h < 2; ++h) {
    for (size_t p = 0; p < 100; ++p) {
      std::copy_n(&arrays.keys[(h * 100 + p) * 8], 8, &moved[(p * 2 + h) * 8]);
    }
  }
  restkv_layer layer = arrays.layer;
  layer.keys = {moved.data(), 2, 100, 8, 8, 16};
  restkv_factor* factor = nullptr;
  ASSERT_EQ(restkv_factor_new(arrays.wo.data(), 32, 4, 8, &factor), RESTKV_OK) << last_error();
  layer.wo = nullptr;
  layer.factor = factor;
  EXPECT_EQ(kept(layer, "restkv", "50"), kept(arrays.layer, "restkv", "50"));
  restkv_factor_free(factor);
}

TEST(CApiArrayTest, BadArraysAreRefused) {
  Arrays arrays;
  restkv_selection* selection = nullptr;
  const auto status = [&](const char* method) {
    return restkv_select(&arrays.layer, method, "50", &selection);
  };
  arrays.layer.keys.row_stride = 4;
  EXPECT_EQ(status("restkv"), RESTKV_INVALID_ARGUMENT);
  EXPECT_THAT(last_error(), HasSubstr("strides"));
  arrays.layer.keys.row_stride = 0;
  arrays.layer.values.dim = 0;
  EXPECT_EQ(status("restkv"), RESTKV_INVALID_ARGUMENT);
  arrays.layer.values.dim = 8;
  EXPECT_EQ(status("kvzip"), RESTKV_UNSUPPORTED);
  EXPECT_EQ(status("h2o"), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(status("nothing"), RESTKV_INVALID_ARGUMENT);
  EXPECT_THAT(last_error(), HasSubstr("streaming-llm"));  // among those that are known
  arrays.keys[3] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(status("restkv"), RESTKV_INPUT);
  EXPECT_EQ(selection, nullptr);
}

TEST(CApiArrayTest, MethodsAndThreadsAreListedAndSet) {
  size_t count = 0;
  while (const char* name = restkv_method_name(count)) {
    EXPECT_EQ(methods()[count].name, name);
    ++count;
  }
  EXPECT_EQ(count, methods().size());
  EXPECT_EQ(restkv_set_threads(-1), RESTKV_INVALID_ARGUMENT);
  EXPECT_EQ(restkv_set_threads(3), RESTKV_OK);
  EXPECT_EQ(restkv_threads(), 3);
  const Arrays arrays;
  const auto expected = kept(arrays.layer, "restkv", "50");
  EXPECT_EQ(restkv_set_threads(1), RESTKV_OK);
  EXPECT_EQ(kept(arrays.layer, "restkv", "50"), expected);
  EXPECT_EQ(restkv_set_threads(0), RESTKV_OK);
  EXPECT_GE(restkv_threads(), 1);
}

}  // namespace
}  // namespace restkv
