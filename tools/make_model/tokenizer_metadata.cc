#include "make_model/tokenizer_metadata.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";

bool is_array(const gguf_context* gguf, int64_t key, gguf_type type) {
  return key >= 0 && gguf_get_kv_type(gguf, key) == GGUF_TYPE_ARRAY &&
         gguf_get_arr_type(gguf, key) == type;
}

std::vector<std::string> strings(const gguf_context* gguf, int64_t key) {
  std::vector<std::string> values(gguf_get_arr_n(gguf, key));
  for (size_t i = 0; i < values.size(); ++i) values[i] = gguf_get_arr_str(gguf, key, i);
  return values;
}

void set_strings(gguf_context* gguf, const char* key, const std::vector<std::string>& values) {
  std::vector<const char*> pointers(values.size());
  std::transform(values.begin(), values.end(), pointers.begin(),
                 [](const std::string& s) { return s.c_str(); });
  gguf_set_arr_str(gguf, key, pointers.data(), pointers.size());
}

/// Cuts an array with an entry per token, or fills it up with `filler`.
template <class T>
void resize_array(gguf_context* gguf, const char* key, gguf_type type, size_t size, T filler) {
  const int64_t id = gguf_find_key(gguf, key);
  if (!is_array(gguf, id, type)) return;
  const auto* data = static_cast<const T*>(gguf_get_arr_data(gguf, id));
  std::vector<T> values(data, data + gguf_get_arr_n(gguf, id));
  values.resize(size, filler);
  gguf_set_arr_data(gguf, key, type, values.data(), values.size());
}

/// Merges are "left right"; the pieces themselves contain no space.
std::vector<std::string> merges_within(const std::vector<std::string>& merges,
                                       const std::vector<std::string>& tokens) {
  const std::unordered_set<std::string_view> known(tokens.begin(), tokens.end());
  std::vector<std::string> kept;
  for (const std::string& merge : merges) {
    const size_t space = merge.find(' ', 1);
    const std::string merged = merge.substr(0, space) + merge.substr(space + 1);
    if (known.contains(merged)) kept.push_back(merge);
  }
  return kept;
}

void drop_special_tokens(gguf_context* gguf, size_t vocabulary) {
  std::vector<std::string> gone;
  for (int64_t i = 0; i < gguf_get_n_kv(gguf); ++i) {
    if (gguf_get_kv_type(gguf, i) != GGUF_TYPE_UINT32) continue;
    const std::string_view key = gguf_get_key(gguf, i);
    if (key.ends_with("_token_id") && gguf_get_val_u32(gguf, i) >= vocabulary) {
      gone.emplace_back(key);
    }
  }
  for (const std::string& key : gone) gguf_remove_key(gguf, key.c_str());
}

void resize_vocabulary(gguf_context* gguf, size_t vocabulary) {
  std::vector<std::string> tokens = strings(gguf, gguf_find_key(gguf, kTokens));
  for (size_t i = tokens.size(); i < vocabulary; ++i) tokens.push_back(fmt::format("[PAD{}]", i));
  tokens.resize(vocabulary);
  set_strings(gguf, kTokens, tokens);
  resize_array<float>(gguf, kScores, GGUF_TYPE_FLOAT32, vocabulary, -10000.0F);
  resize_array<int32_t>(gguf, kTypes, GGUF_TYPE_INT32, vocabulary, LLAMA_TOKEN_TYPE_UNUSED);
  const int64_t merges = gguf_find_key(gguf, kMerges);
  if (is_array(gguf, merges, GGUF_TYPE_STRING)) {
    set_strings(gguf, kMerges, merges_within(strings(gguf, merges), tokens));
  }
  drop_special_tokens(gguf, vocabulary);
}

}  // namespace

size_t copy_tokenizer(const std::string& path, size_t vocabulary, gguf_context* gguf) {
  capture_ggml_log();
  const std::unique_ptr<gguf_context, decltype(&gguf_free)> source(
      gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  if (source == nullptr) {
    throw Error(ErrorCode::kInput,
                fmt::format("cannot take a tokenizer from {}: it is not a readable GGUF file ({})",
                            path, take_ggml_errors()));
  }
  std::vector<std::string> others;
  for (int64_t i = 0; i < gguf_get_n_kv(source.get()); ++i) {
    const std::string key = gguf_get_key(source.get(), i);
    if (!key.starts_with("tokenizer.")) others.push_back(key);
  }
  for (const std::string& key : others) gguf_remove_key(source.get(), key.c_str());
  const int64_t list = gguf_find_key(source.get(), kTokens);
  if (!is_array(source.get(), list, GGUF_TYPE_STRING)) {
    throw Error(ErrorCode::kInput,
                fmt::format("cannot take a tokenizer from {}: it has no '{}'", path, kTokens));
  }
  const size_t own = gguf_get_arr_n(source.get(), list);
  if (vocabulary == 0) vocabulary = own;
  if (vocabulary != own) resize_vocabulary(source.get(), vocabulary);
  gguf_set_kv(gguf, source.get());
  return vocabulary;
}

}  // namespace restkv
