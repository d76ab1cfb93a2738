#pragma once

#include <cstdint>
#include <exception>
#include <span>

#include "engine/sequence.h"
#include "engine/workspace.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/views.h"

/// One token for each of several sequences, which may differ in methods, budgets and lengths.
namespace restkv {

/// Appends `tokens[i]` to `sequences[i]`, whose logits then follow it, and cuts caches that are
/// due. The weights are read and unpacked once for all. What a sequence gets does not depend on the
/// others; there may be 1 to `Engine::kMaxBatch` of them, each once.
///
/// Throws `Error` as `Engine::decode` does. `failures`: none, or one for each sequence, null: there
/// goes what is thrown while a sequence is computed, which is then of no use any more.
void decode(const Model& model, Workspace& workspace, std::span<const int32_t> tokens,
            std::span<Sequence* const> sequences, std::span<std::exception_ptr> failures = {});
/// The same for a sequence alone, faster: activations are rounded to meet stored weights, so logits
/// differ by a rounding.
void decode(const Model& model, Workspace& workspace, int32_t token, Sequence& sequence);

/// The same on bare caches, which nobody observes and nothing cuts. Returns logits [tokens, V],
/// valid until the workspace is used again.
Matrix<const float> decode(const Model& model, Workspace& workspace,
                           std::span<const int32_t> tokens, std::span<KvCache* const> caches);
std::span<const float> decode(const Model& model, Workspace& workspace, int32_t token,
                              KvCache& cache);

}  // namespace restkv
