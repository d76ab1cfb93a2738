#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "restkv/compress.h"

namespace restkv {

// Every method has a file of its own and is listed in registry.cc.
Method full_method();
Method streaming_llm_method();
Method snapkv_method();
Method restkv_method();
Method random_method();
Method knorm_method();
Method h2o_method();
Method observed_attention_method();
Method tova_method();
Method lacache_method();
Method keydiff_method();
Method lagkv_method();
Method expected_attention_method();
Method cur_method();
Method cake_method();
Method chunkkv_method();
Method finch_method();
Method dropkv_method();
Method rkv_method();
Method triattention_method();
Method leverage_method();
Method compactor_method();
Method kvzip_method();
Method kvzip_plus_method();
Method kvzap_method();
Method restkv_repeat_method();
Method attention_matching_method();

// Checks shared by the methods; each throws `Error` (kInvalidArgument).

/// window >= 1 and budget > window.
void check_window(const CompressionOptions& options);
/// Number of queries that methods with an observation window observe: the window.
size_t observe_window(const CompressionOptions& options);
/// kernel odd and positive, or kAutoKernel; drift_scale positive with the adaptive window.
void check_pooling(const CompressionOptions& options);
/// Tokens that methods with a repeat pass repeat at a time, an option of each of them.
inline constexpr std::string_view kRepeatChunk = "repeat_chunk";
/// What these tokens see of the prompt, the same: all or chunk.
inline constexpr std::string_view kRepeatSees = "repeat_sees";

/// Number of cache heads of a layer: its KV heads, or its query heads with `per_query_head`.
size_t cache_heads(const LayerObservation& layer, const CompressionOptions& options);

/// Number of tokens before the protected last `window` of a layer; 0 in a layer that holds no more.
size_t before_window(const LayerObservation& layer, const CompressionOptions& options);

/// The least that a budget that chooses itself can be: the observation window and one token.
size_t least_chosen(const CompressionOptions& options);

/// Number of protected tokens of a longer layer: the window of methods that have one.
size_t protected_tokens(const CompressionOptions& options);

/// For messages: "the 30 layers of the model", or that some of them keep their window.
std::string describe_layers(const CacheShape& shape);

}  // namespace restkv
