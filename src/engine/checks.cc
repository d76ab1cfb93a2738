#include "engine/checks.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/weights.h"

namespace restkv {
namespace {

/// Methods that choose what a KV head keeps by this head alone, and know heads by nothing else than
/// their contents.
constexpr std::array kSeparate{"restkv",
                               "snapkv",
                               "full",
                               "streaming-llm",
                               "knorm",
                               "keydiff",
                               "h2o",
                               "lagkv",
                               "rkv",
                               "dropkv",
                               "finch",
                               "lacache",
                               "kvzip",
                               "kvzip-plus",
                               "cur",
                               "expected-attention",
                               "observed-attention",
                               "restkv-repeat",
                               "attention-matching"};
constexpr std::array kSeparateAllocations{"uniform", "pyramid"};

}  // namespace

void require_separate_heads(const Model& model, const CompressionOptions& options) {
  const size_t ranks = model.weights().communicator->size();
  if (ranks == 1) return;
  const auto require = [ranks](bool separate, const std::string& what, const char* remedy) {
    if (separate) return;
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{} looks at all heads of a layer, which {} processes share; {}, or run "
                    "it as one process",
                    what, ranks, remedy));
  };
  require(std::ranges::count(kSeparate, options.method) > 0, "method " + options.method,
          "choose another, such as restkv or snapkv");
  require(std::ranges::count(kSeparateAllocations, options.allocation) > 0,
          "allocation " + options.allocation, "use uniform or pyramid");
  require(!chooses_budget(options), "a budget that chooses itself", "give a number of tokens");
}

void refuse_sparse_if_shared(const Model& model, const SparseOptions& options) {
  if (model.weights().communicator->size() == 1 || options.pattern == "dense") return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("the sparse pattern {} is not for several processes that share a model "
                          "yet; use dense, or run it as one process",
                          options.pattern));
}

AttentionOptions attention_options(const Model& model, size_t layer) {
  const ModelConfig& c = model.config();
  return {.scale = c.attention_scale,
          .softcap = c.attention_softcap,
          .sliding_window = c.windows[layer],
          .precision = model.attention_precision(),
          .sink_logits = model.weights().layers[layer].sink_logits};
}

void check_length(const ModelConfig& c, size_t position, size_t n) {
  if (n == 0) throw Error(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  if (position <= c.context_length && n <= c.context_length - position) return;
  throw Error(ErrorCode::kInvalidArgument,
              position == 0
                  ? fmt::format("the prompt has {} tokens, but the model's context holds {}; "
                                "shorten the prompt, or use a model with a longer context",
                                n, c.context_length)
                  : fmt::format("{} more tokens from position {} on exceed the model's context of "
                                "{}; use a model with a longer context",
                                n, position, c.context_length));
}

void check_repeat_length(const ModelConfig& c, size_t end, size_t longest) {
  if (end <= c.context_length && longest <= c.context_length - end) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("the {} tokens that repeat a part of the prompt behind position {} exceed "
                  "the model's context of {}; repeat fewer at a time (repeat_chunk), "
                  "shorten the prompt, or use a model with a longer context",
                  longest, end, c.context_length));
}

void require_repeat_prompt(const CompressionOptions& options,
                           const std::optional<RepeatPrompt>& prompt) {
  if (repeat_chunk(options) == 0) return;
  if (!prompt) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} lets the model repeat the prompt and needs the words that ask for "
                    "it: give a RepeatPrompt (Conversation::repeat_prompt)",
                    watched_tokens(options) == WatchedTokens::kRepeat ? "method " + options.method
                                                                      : "refit"));
  }
  if (prompt->prefix.size() >= static_cast<size_t>(options.budget)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("budget {} leaves no room beside the {} tokens in front of the text, "
                            "which always stay; raise the budget",
                            options.budget, prompt->prefix.size()));
  }
}

void check_caches(const ModelConfig& c, std::span<KvCache* const> caches) {
  for (const KvCache* cache : caches) {
    if (cache == nullptr) throw Error(ErrorCode::kInvalidArgument, "a cache is missing (null)");
    if (cache->layers() != c.layers) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the cache has {} layers and the model {}; make it for this model",
                              cache->layers(), c.layers));
    }
    if (std::ranges::count(caches, cache) > 1) {
      throw Error(ErrorCode::kInvalidArgument, "a cache cannot get two tokens at once");
    }
  }
}

void require_finite(const Model& model, std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("{}: the model computed NaN or infinite logits ({} for token {}); its "
                      "file is probably damaged",
                      model.path(), logits[i], i % model.config().vocabulary));
    }
  }
}

size_t next_position(const ModelConfig& c, const KvCache& cache, size_t layer) {
  if (c.windows[layer] == 0 || cache.heads(layer).empty()) return cache.next_position;
  const std::span<const int32_t> positions = cache.positions(layer, 0);
  return positions.empty() ? cache.next_position : static_cast<size_t>(positions.back()) + 1;
}

}  // namespace restkv
