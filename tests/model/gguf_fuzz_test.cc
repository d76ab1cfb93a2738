// Files that somebody made wrong on purpose, or that a disk did: each loads or is refused with an
// Error that names it and what is wrong. Nothing may crash, hang, or take memory without limit.
//
// Case N is the same on every machine. RESTKV_FUZZ_CASES says how many are tried (the default takes
// seconds), RESTKV_FUZZ_FIRST from which on; a crash prints its number.

#include <gguf.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/threads.h"
#include "model/gguf_index.h"
#include "model/metadata.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "support/memory_file.h"
#include "support/raw_gguf.h"
#include "support/small_vocabulary.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::gguf_string;
using ::restkv::testing::kSmallVocabulary;
using ::restkv::testing::little_endian;
using ::restkv::testing::MemoryFile;
using ::restkv::testing::RawGguf;
using Random = std::mt19937_64;

size_t below(Random& random, size_t end) { return end == 0 ? 0 : random() % end; }

template <class List>
auto& any_of(Random& random, List& list) {
  return list[below(random, std::size(list))];
}

// ---- Numbers that break things -----------------------------------------------------------------

uint64_t bad_integer(Random& random) {
  constexpr std::array<uint64_t, 28> kList{0,
                                           1,
                                           2,
                                           3,
                                           4,
                                           5,
                                           7,
                                           8,
                                           16,
                                           31,
                                           33,
                                           63,
                                           64,
                                           255,
                                           256,
                                           287,
                                           288,
                                           4095,
                                           4097,
                                           65535,
                                           1U << 20U,
                                           (1U << 24U) + 1,
                                           0x7FFFFFFFU,
                                           0x80000000U,
                                           0xFFFFFFFFU,
                                           uint64_t{1} << 32U,
                                           uint64_t{1} << 62U,
                                           std::numeric_limits<uint64_t>::max()};
  return below(random, 8) == 0 ? random() : any_of(random, kList);
}

double bad_real(Random& random) {
  constexpr std::array kList{0.0,
                             -0.0,
                             1.0,
                             -1.0,
                             0.5,
                             1e-45,
                             1e-30,
                             1e30,
                             3.4e38,
                             1e300,
                             -1e300,
                             std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity(),
                             std::numeric_limits<double>::quiet_NaN()};
  return any_of(random, kList);
}

std::string random_bytes(Random& random, size_t count) {
  std::string bytes(count, '\0');
  for (char& b : bytes) b = static_cast<char>(random());
  return bytes;
}

/// A number of type `type` in the wrong place or of the wrong size.
void set_bad_number(RawGguf::Value& value, Random& random, uint32_t type) {
  value.type = type;
  if (type == GGUF_TYPE_FLOAT32) {
    value.bytes = little_endian(std::bit_cast<uint32_t>(static_cast<float>(bad_real(random))), 4);
  } else if (type == GGUF_TYPE_FLOAT64) {
    value.bytes = little_endian(std::bit_cast<uint64_t>(bad_real(random)), 8);
  } else {
    value.bytes = little_endian(bad_integer(random), gguf_number_size(type));
  }
}

// ---- One thing wrong ---------------------------------------------------------------------------

/// Keys behind the architecture's name that count, there or not.
const std::vector<std::string>& architecture_keys() {
  static const std::vector<std::string> keys = [] {
    std::vector<std::string> all;
    for (const KeyRule& rule : key_rules()) {
      if (rule.key.starts_with('.') && rule.use != KeyUse::kIgnored) all.emplace_back(rule.key);
    }
    return all;
  }();
  return keys;
}
constexpr std::array kTokenizerKeys{"tokenizer.ggml.model",
                                    "tokenizer.ggml.pre",
                                    "tokenizer.ggml.tokens",
                                    "tokenizer.ggml.scores",
                                    "tokenizer.ggml.token_type",
                                    "tokenizer.ggml.merges",
                                    "tokenizer.ggml.bos_token_id",
                                    "tokenizer.ggml.eos_token_id",
                                    "tokenizer.ggml.eot_token_id",
                                    "tokenizer.ggml.add_bos_token",
                                    "tokenizer.ggml.add_eos_token",
                                    "tokenizer.ggml.unknown_token_id",
                                    "tokenizer.ggml.add_space_prefix",
                                    "tokenizer.chat_template"};
constexpr std::array kWords{
    "",       "llama",   "gpt2",   "none",    "no_vocab", "bert", "t5",        "rwkv",  "test",
    "plamo2", "default", "llama3", "qwen2",   "linear",   "yarn", "longrope",  "none ", "mamba",
    "gemma3", "phi3",    "qwen2",  "\x1b[2J", "\xff\xfe", "a\nb", "hybriddna", "phi-3", "{% for"};

std::string architecture_key(RawGguf& gguf, const std::string& suffix) {
  const RawGguf::Value* name = gguf.find("general.architecture");
  const std::string text = name != nullptr && name->bytes.size() >= 8 ? name->bytes.substr(8) : "";
  return text + suffix;
}

using Mutation = void (*)(RawGguf&, Random&);

void remove_value(RawGguf& g, Random& r) {
  if (!g.values.empty())
    g.values.erase(g.values.begin() + static_cast<long>(below(r, g.values.size())));
}
void repeat_value(RawGguf& g, Random& r) {
  if (g.values.empty()) return;
  const RawGguf::Value copy = any_of(r, g.values);
  g.values.insert(g.values.begin() + static_cast<long>(below(r, g.values.size())), copy);
}
void rename_value(RawGguf& g, Random& r) {
  if (g.values.empty()) return;
  std::string& key = any_of(r, g.values).key;
  switch (below(r, 5)) {
    case 0:
      key.clear();
      break;
    case 1:
      key = random_bytes(r, below(r, 100));
      break;
    case 2:
      key.assign(70000, 'k');
      break;
    case 3:
      key = any_of(r, g.values).key;
      break;
    default:
      if (!key.empty()) key[below(r, key.size())] = static_cast<char>(r());
  }
}
void retype_value(RawGguf& g, Random& r) {
  if (!g.values.empty()) any_of(r, g.values).type = static_cast<uint32_t>(below(r, 15));
}
void bad_number_anywhere(RawGguf& g, Random& r) {
  if (g.values.empty()) return;
  RawGguf::Value& value = any_of(r, g.values);
  constexpr std::array<uint32_t, 11> kTypes{0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12};
  const bool is_number = value.type != GGUF_TYPE_STRING && value.type != GGUF_TYPE_ARRAY;
  set_bad_number(value, r, is_number && below(r, 3) != 0 ? value.type : any_of(r, kTypes));
}
void bad_architecture_number(RawGguf& g, Random& r) {
  const std::string key = architecture_key(g, any_of(r, architecture_keys()));
  RawGguf::Value* value = g.find(key);
  if (value == nullptr) {
    g.set_number(key, GGUF_TYPE_UINT32, 0);
    value = g.find(key);
  }
  set_bad_number(*value, r, below(r, 2) == 0 ? GGUF_TYPE_FLOAT32 : GGUF_TYPE_UINT32);
}
void bad_word(RawGguf& g, Random& r) {
  switch (below(r, 4)) {
    case 0:
      g.set_string(architecture_key(g, any_of(r, architecture_keys())), any_of(r, kWords));
      break;
    case 1:
      g.set_string("general.architecture", any_of(r, kWords));
      break;
    case 2:
      g.set_string("general.name", any_of(r, kWords));
      break;
    default:
      g.set_string(any_of(r, kTokenizerKeys), any_of(r, kWords));
  }
}
void bad_string_length(RawGguf& g, Random& r) {
  if (g.values.empty()) return;
  RawGguf::Value& value = any_of(r, g.values);
  value.type = GGUF_TYPE_STRING;
  value.bytes = little_endian(bad_integer(r), 8) + random_bytes(r, below(r, 40));
}
void bad_array(RawGguf& g, Random& r) {
  if (g.values.empty()) return;
  RawGguf::Value& value = any_of(r, g.values);
  switch (below(r, 3)) {
    case 0:  // another length than its elements
      value.count = below(r, 2) == 0 ? bad_integer(r) : value.count + below(r, 5) - 2;
      break;
    case 1:  // another type than its elements
      value.element_type = static_cast<uint32_t>(below(r, 15));
      break;
    default:
      value.type = GGUF_TYPE_ARRAY;
      value.element_type = static_cast<uint32_t>(below(r, 13));
      value.count = below(r, 8);
      value.bytes = random_bytes(r, value.count * 8);
  }
}
void array_where_a_number_is_asked(RawGguf& g, Random& r) {
  const std::string key = architecture_key(g, any_of(r, architecture_keys()));
  const uint64_t count = below(r, 6);
  std::string bytes;
  const bool flags = below(r, 2) == 0;
  for (uint64_t i = 0; i < count; ++i) {
    bytes += flags ? little_endian(r() & 1U, 1) : little_endian(bad_integer(r), 4);
  }
  g.set_array(key, flags ? GGUF_TYPE_BOOL : GGUF_TYPE_UINT32, count, bytes);
}

void remove_tensor(RawGguf& g, Random& r) {
  if (!g.tensors.empty()) {
    g.tensors.erase(g.tensors.begin() + static_cast<long>(below(r, g.tensors.size())));
  }
}
void repeat_tensor(RawGguf& g, Random& r) {
  if (!g.tensors.empty()) g.tensors.push_back(RawGguf::Tensor(any_of(r, g.tensors)));
}
void rename_tensor(RawGguf& g, Random& r) {
  if (g.tensors.empty()) return;
  std::string& name = any_of(r, g.tensors).name;
  switch (below(r, 5)) {
    case 0:
      name.clear();
      break;
    case 1:
      name.assign(64 + below(r, 5), 't');
      break;
    case 2:
      std::swap(name, any_of(r, g.tensors).name);
      break;
    case 3:  // a tensor that this family does not have, or has by another name
      name = std::string("blk.0.") + (below(r, 2) == 0 ? "attn_q.bias" : "attn_q_norm.weight");
      break;
    default:
      if (!name.empty()) name[below(r, name.size())] = static_cast<char>(r());
  }
}
void reshape_tensor(RawGguf& g, Random& r) {
  if (g.tensors.empty()) return;
  auto& shape = any_of(r, g.tensors).shape;
  switch (below(r, 4)) {
    case 0:
      shape.resize(below(r, 7), 1);
      break;
    case 1:
      std::reverse(shape.begin(), shape.end());
      break;
    case 2:  // sizes whose product overflows
      shape.assign(1 + below(r, 4), uint64_t{1} << (16 + below(r, 48)));
      break;
    default:
      if (!shape.empty()) any_of(r, shape) = bad_integer(r);
  }
}
void retype_tensor(RawGguf& g, Random& r) {
  if (g.tensors.empty()) return;
  any_of(r, g.tensors).type =
      static_cast<uint32_t>(below(r, 4) == 0 ? bad_integer(r) : below(r, 45));
}
/// Other types for tensors that then fill other sizes, with the offsets that fit them.
void retype_all_tensors(RawGguf& g, Random& r) {
  uint64_t offset = 0;
  for (RawGguf::Tensor& tensor : g.tensors) {
    if (below(r, 2) == 0) {
      constexpr std::array<uint32_t, 8> kTypes{0, 1, 2, 3, 8, 20, 30, 28};
      tensor.type = any_of(r, kTypes);
    }
    tensor.offset = offset;
    uint64_t elements = 1;
    for (const uint64_t extent : tensor.shape) elements *= extent;
    const auto type = static_cast<ggml_type>(std::min<uint32_t>(tensor.type, GGML_TYPE_COUNT - 1));
    const auto block = static_cast<uint64_t>(std::max<int64_t>(ggml_blck_size(type), 1));
    offset += (elements / block * ggml_type_size(type) + 31) / 32 * 32;
  }
  g.data.resize(std::min<uint64_t>(offset, 1U << 20U));
}
void move_tensor(RawGguf& g, Random& r) {
  if (g.tensors.empty()) return;
  uint64_t& offset = any_of(r, g.tensors).offset;
  offset = below(r, 2) == 0 ? bad_integer(r) : offset + 32 * below(r, 9) - 128;
}
void bad_alignment(RawGguf& g, Random& r) {
  const uint64_t value = below(r, 2) == 0 ? bad_integer(r) : uint64_t{1} << below(r, 32);
  g.set_number("general.alignment", below(r, 4) == 0 ? GGUF_TYPE_UINT64 : GGUF_TYPE_UINT32, value);
  if (below(r, 2) == 0) g.alignment = 1 + value % 4096;
}
void bad_counts(RawGguf& g, Random& r) {
  int64_t& extra = below(r, 2) == 0 ? g.extra_values : g.extra_tensors;
  extra = below(r, 2) == 0 ? static_cast<int64_t>(bad_integer(r))
                           : static_cast<int64_t>(below(r, 7)) - 3;
}
void bad_version(RawGguf& g, Random& r) { g.version = static_cast<uint32_t>(bad_integer(r)); }
void other_data_size(RawGguf& g, Random& r) { g.data.resize(below(r, g.data.size() + 100)); }
void bad_weights(RawGguf& g, Random& r) {
  if (g.data.empty()) return;
  const size_t begin = below(r, g.data.size());
  const size_t end = std::min(g.data.size(), begin + 1 + below(r, 4000));
  if (below(r, 2) == 0) {  // NaN in every type of float, huge scales
    std::fill(g.data.begin() + static_cast<long>(begin), g.data.begin() + static_cast<long>(end),
              below(r, 2) == 0 ? '\xFF' : '\x7B');
  } else {
    for (size_t i = begin; i < end; ++i) g.data[i] = static_cast<char>(r());
  }
}

void bad_vocabulary(RawGguf& g, Random& r) {
  std::vector<std::string> tokens;
  RawGguf::Value* list = g.find("tokenizer.ggml.tokens");
  if (list == nullptr) return;
  for (size_t at = 0; at + 8 <= list->bytes.size();) {
    size_t size = static_cast<unsigned char>(list->bytes[at]);
    tokens.push_back(list->bytes.substr(at + 8, size));
    at += 8 + size;
  }
  const size_t changes = 1 + below(r, 3);
  for (size_t c = 0; c < changes && !tokens.empty(); ++c) {
    std::string& token = any_of(r, tokens);
    switch (below(r, 7)) {
      case 0:
        token = any_of(r, tokens);
        break;
      case 1:
        token.clear();
        break;
      case 2:
        token.insert(below(r, token.size() + 1), 1, '\0');
        break;
      case 3:
        token = random_bytes(r, below(r, 20));
        break;
      case 4:
        tokens.resize(below(r, tokens.size() + 4), "more");
        break;
      case 5:
        token = "<|eot_id|>";
        break;
      default:
        token.append(below(r, 5) == 0 ? 100000 : 3, 'z');
    }
  }
  g.set_strings("tokenizer.ggml.tokens", tokens);
}
void bad_token_numbers(RawGguf& g, Random& r) {
  RawGguf::Value* value =
      g.find(below(r, 2) == 0 ? "tokenizer.ggml.scores" : "tokenizer.ggml.token_type");
  if (value == nullptr || value->bytes.size() < 4) return;
  switch (below(r, 3)) {
    case 0: {
      const size_t count = below(r, value->bytes.size() / 4 + 3);
      value->bytes.resize(count * 4);
      value->count = count;
      break;
    }
    case 1:
      for (int i = 0; i < 20; ++i) {
        value->bytes.replace(below(r, value->bytes.size() / 4) * 4, 4,
                             little_endian(below(r, 8), 4));
      }
      break;
    default:
      for (int i = 0; i < 20; ++i) {
        value->bytes.replace(below(r, value->bytes.size() / 4) * 4, 4, random_bytes(r, 4));
      }
  }
}
void bad_merges(RawGguf& g, Random& r) {
  std::vector<std::string> merges;
  for (size_t i = below(r, 12); i > 0; --i) {
    constexpr std::array kMerges{"t h", "h e", "", " ", "th", "l  l", " x", "\xff \xff", "a b c"};
    merges.emplace_back(any_of(r, kMerges));
  }
  g.set_strings("tokenizer.ggml.merges", merges);
}
void bad_special_token(RawGguf& g, Random& r) {
  constexpr std::array kIds{"bos_token_id",     "eos_token_id",     "eot_token_id",
                            "unknown_token_id", "padding_token_id", "eom_token_id"};
  g.set_number(std::string("tokenizer.ggml.") + any_of(r, kIds), GGUF_TYPE_UINT32, bad_integer(r));
  constexpr std::array kFlags{"add_bos_token", "add_eos_token", "add_space_prefix"};
  g.set_number(std::string("tokenizer.ggml.") + any_of(r, kFlags), GGUF_TYPE_BOOL, r() & 3U);
}

constexpr std::array<Mutation, 28> kMutations{remove_value,
                                              repeat_value,
                                              rename_value,
                                              retype_value,
                                              bad_number_anywhere,
                                              bad_architecture_number,
                                              bad_architecture_number,
                                              bad_architecture_number,
                                              bad_word,
                                              bad_string_length,
                                              bad_array,
                                              array_where_a_number_is_asked,
                                              remove_tensor,
                                              repeat_tensor,
                                              rename_tensor,
                                              reshape_tensor,
                                              retype_tensor,
                                              retype_all_tensors,
                                              move_tensor,
                                              bad_alignment,
                                              bad_counts,
                                              bad_version,
                                              other_data_size,
                                              bad_weights,
                                              bad_vocabulary,
                                              bad_token_numbers,
                                              bad_merges,
                                              bad_special_token};

/// Damage that knows nothing of the format.
void damage_bytes(std::string& bytes, Random& random) {
  if (bytes.empty()) return;
  // Headers are where it hurts; the first part of the file is mostly header.
  const size_t reach = below(random, 3) == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 9000);
  const size_t at = below(random, reach);
  switch (below(random, 5)) {
    case 0:
      bytes.resize(at);
      break;
    case 1:
      for (size_t i = 1 + below(random, 8); i > 0; --i) {
        char& byte = bytes[below(random, reach)];
        byte = static_cast<char>(byte ^ static_cast<char>(1U << below(random, 8)));
      }
      break;
    case 2:
      bytes.insert(at, random_bytes(random, 1 + below(random, 16)));
      break;
    case 3:
      bytes.erase(at, 1 + below(random, 16));
      break;
    default:
      bytes.replace(at, 8, little_endian(bad_integer(random), 8));
  }
}

// ---- What becomes of a file --------------------------------------------------------------------

struct Tally {
  size_t models = 0;    // loaded
  size_t computed = 0;  // ... and answered a short prompt
  size_t models_refused = 0;
  size_t prompts_refused = 0;  // loaded, but its weights compute NaN
  size_t tokenizers = 0;
  size_t tokenizers_refused = 0;
  size_t texts_refused = 0;
  double slowest_seconds = 0;
};

class Judge {
 public:
  void judge(const std::string& bytes) {
    const auto start = std::chrono::steady_clock::now();
    file_.write(bytes);
    try_model();
    try_tokenizer();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    tally_.slowest_seconds = std::max(tally_.slowest_seconds, spent.count());
  }
  [[nodiscard]] const Tally& tally() const { return tally_; }

 private:
  /// The message names the file and, by a name in quotes or a number, what is wrong with it.
  void check(const Error& error) const {
    const std::string message = error.what();
    EXPECT_TRUE(error.code() == ErrorCode::kInput || error.code() == ErrorCode::kUnsupported)
        << message;
    const size_t at = message.find(path_);
    ASSERT_NE(at, std::string::npos) << message;
    const std::string rest = message.substr(0, at) + message.substr(at + path_.size());
    EXPECT_GT(rest.size(), 15U) << message;
    EXPECT_LT(rest.size(), 2000U) << message;
    const bool specific =
        std::any_of(rest.begin(), rest.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
        rest.find('\'') != std::string::npos || rest.find("GGUF") != std::string::npos ||
        rest.find("tokenizer.") != std::string::npos;
    EXPECT_TRUE(specific) << message;
  }

  void try_model() {
    std::unique_ptr<Model> model;
    try {
      model = std::make_unique<Model>(path_);
      ++tally_.models;
    } catch (const Error& error) {
      check(error);
      ++tally_.models_refused;
      return;
    }
    std::vector<int32_t> prompt(std::min<size_t>(40, model->config().context_length));
    for (size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = static_cast<int32_t>((i * 37 + 5) % model->config().vocabulary);
    }
    CacheRequest request;
    request.options = default_options("snapkv");
    request.options.budget = 24;
    request.options.window = 8;
    try {
      Engine engine(*model);
      const std::vector<float> logits = engine.prefill(prompt, {&request, 1});
      ASSERT_EQ(logits.size(), model->config().vocabulary);
      if (prompt.size() < model->config().context_length) engine.decode(prompt[0], request.cache);
      ++tally_.computed;
    } catch (const Error& error) {
      check(error);
      ++tally_.prompts_refused;
    }
  }

  void try_tokenizer() {
    std::unique_ptr<Tokenizer> tokenizer;
    try {
      tokenizer = std::make_unique<Tokenizer>(path_);
      ++tally_.tokenizers;
    } catch (const Error& error) {
      check(error);
      ++tally_.tokenizers_refused;
      return;
    }
    try {
      const auto tokens = tokenizer->encode("the hello <|im_end|> \xC3\xA9\xFF 12\n", true, true);
      for (const int32_t token : tokens) {
        ASSERT_GE(token, 0);
        ASSERT_LT(static_cast<size_t>(token), tokenizer->vocabulary());
        static_cast<void>(tokenizer->is_end(token));
      }
      EXPECT_LT(tokenizer->decode(tokens).size(), 1U << 24U);
      const ChatMessage message{"user", "hello"};
      if (tokenizer->has_chat_template()) {
        EXPECT_NE(tokenizer->apply_chat_template({&message, 1}), "");
      }
    } catch (const Error& error) {
      check(error);
      ++tally_.texts_refused;
    }
  }

  MemoryFile file_;
  std::string path_ = file_.path();
  Tally tally_;
};

// ---- The run -----------------------------------------------------------------------------------

/// Valid files that the cases begin with.
std::vector<RawGguf> valid_files() {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  std::vector<RawGguf> files;
  for (const char* architecture :
       {"llama", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3"}) {
    testing::TinyModel model;
    model.architecture = architecture;
    model.layers = 2;
    model.width = 32;
    model.ffn_width = 32;
    model.head_dim = 8;
    model.vocabulary = kSmallVocabulary;
    model.context = 100;
    model.window = 16;
    model.window_pattern = 2;
    // Half of the families with blocks of 32 weights, untied, and the other kind of vocabulary.
    const bool even = files.size() % 2 == 0;
    model.type = even ? GGML_TYPE_F32 : GGML_TYPE_Q8_0;
    model.tied = even;
    model.write(path);
    std::ifstream stream(path, std::ios::binary);
    files.push_back(RawGguf::parse(std::string{std::istreambuf_iterator<char>(stream), {}}));
    (even ? testing::add_sentencepiece_vocabulary : testing::add_bpe_vocabulary)(files.back(), {});
  }
  return files;
}

size_t number_from_environment(const char* name, size_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::stoul(text) : fallback;
}

std::atomic<size_t> current_case{0};

/// For the one who has to find out: the case in which something aborted.
void report_case(int) {
  std::fprintf(stderr, "\naborted in case %zu of the GGUF fuzz test\n", current_case.load());
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

double resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

TEST(GgufFuzz, ValidFilesLoad) {
  for (const RawGguf& file : valid_files()) {
    const MemoryFile memory;
    memory.write(file.bytes());
    EXPECT_NO_THROW(Model(memory.path())) << file.bytes().substr(0, 200);
    EXPECT_NO_THROW(Tokenizer(memory.path()));
  }
}

TEST(GgufFuzz, EveryFileLoadsOrIsRefused) {
  const size_t first = number_from_environment("RESTKV_FUZZ_FIRST", 0);
  const size_t cases = number_from_environment("RESTKV_FUZZ_CASES", 2000);
  const std::vector<RawGguf> files = valid_files();
  const int threads = num_threads();
  set_num_threads(1);
  std::signal(SIGABRT, report_case);
  Judge judge;
  const double resident_before = resident_mib();
  for (size_t n = first; n < first + cases; ++n) {
    current_case = n;
    Random random(n);
    RawGguf file = files[below(random, files.size())];
    const bool format_known = below(random, 4) != 0;
    if (format_known) {
      for (size_t i = 1 + below(random, 3); i > 0; --i) any_of(random, kMutations)(file, random);
    }
    std::string bytes = file.bytes();
    if (!format_known || below(random, 5) == 0) damage_bytes(bytes, random);
    SCOPED_TRACE("case " + std::to_string(n));
    judge.judge(bytes);
    if (HasFatalFailure()) return;
  }
  std::signal(SIGABRT, SIG_DFL);
  set_num_threads(threads);
  const Tally& t = judge.tally();
  const double grown = resident_mib() - resident_before;
  std::printf(
      "%zu files: %zu models loaded (%zu answered, %zu computed NaN), %zu refused; "
      "%zu tokenizers loaded (%zu refused the text), %zu refused; slowest %.2f s, memory +%.0f "
      "MiB\n",
      cases, t.models, t.computed, t.prompts_refused, t.models_refused, t.tokenizers,
      t.texts_refused, t.tokenizers_refused, t.slowest_seconds, grown);
  EXPECT_LT(grown, 1500.0) << "MiB";
  if (cases >= 1000) {  // neither side of the property may become empty
    EXPECT_GT(t.computed, cases / 20);
    EXPECT_GT(t.models_refused, cases / 4);
    EXPECT_GT(t.tokenizers, cases / 20);
    EXPECT_GT(t.tokenizers_refused, cases / 10);
  }
}

}  // namespace
}  // namespace restkv
