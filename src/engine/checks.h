#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <optional>
#include <span>

#include "restkv/attention.h"
#include "restkv/error.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/repeat.h"
#include "restkv/sparse.h"

/// Checks and properties of layers shared by prompts and single tokens.
namespace restkv {

AttentionOptions attention_options(const Model& model, size_t layer);

/// Throws `Error` (kInvalidArgument) unless n > 0 tokens from `position` on fit into the context.
void check_length(const ModelConfig& config, size_t position, size_t n);

/// Throws `Error` (kInvalidArgument) unless `longest` tokens that repeat a part of the prompt fit
/// into the context behind its end.
void check_repeat_length(const ModelConfig& config, size_t end, size_t longest);

/// Throws `Error` (kInvalidArgument) if the method needs a repeat pass and has no prompt for it, or
/// one whose prefix fills the budget.
void require_repeat_prompt(const CompressionOptions& options,
                           const std::optional<RepeatPrompt>& prompt);

/// Throws `Error` (kUnsupported) if several processes share the model and what a head keeps depends
/// on heads of others, or on files that count all heads.
void require_separate_heads(const Model& model, const CompressionOptions& options);

/// Throws `Error` (kUnsupported) if several processes share the model and prompts are to be sparse.
void refuse_sparse_if_shared(const Model& model, const SparseOptions& options);

/// Throws `Error` (kInvalidArgument) if a cache is null, lacks the model's layers, or
/// occurs twice.
void check_caches(const ModelConfig& config, std::span<KvCache* const> caches);

/// Throws `Error` (kInput) if there is a NaN or an infinity among `logits` [rows, V].
void require_finite(const Model& model, std::span<const float> logits);

/// Position of the next token in a layer. Layers with a sliding window always hold the last token
/// and continue from its position, because compact positions apply to the other layers only.
size_t next_position(const ModelConfig& config, const KvCache& cache, size_t layer);

/// Runs a step that stores or compares keys and values. Errors (kInput) come from the weights, so
/// their messages get the path of the model.
template <class Step>
void with_model_path(const Model& model, const Step& step) {
  try {
    step();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInput) throw;
    throw Error(e.code(), fmt::format("{}: {}", model.path(), e.what()));
  }
}

}  // namespace restkv
