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

/// Appends `tokens[i]` to `sequences[i]`, updates its logits, and cuts caches that are due. Weights
/// are read once for all; activations are rounded to multiply them. The results of a sequence do
/// not depend on the others. There may be 1 to `Engine::kMaxBatch` different sequences.
///
/// Throws `Error` as `Engine::decode` does. `failures`: none, or one for each sequence, null: there
/// goes what is thrown while a sequence is computed, which is then of no use any more.
void decode(const Model& model, Workspace& workspace, std::span<const int32_t> tokens,
            std::span<Sequence* const> sequences, std::span<std::exception_ptr> failures = {});
/// The same for one sequence.
void decode(const Model& model, Workspace& workspace, int32_t token, Sequence& sequence);

/// The same on plain caches, without observation and cuts. Returns logits [tokens, V], valid until
/// the workspace is used again.
Matrix<const float> decode(const Model& model, Workspace& workspace,
                           std::span<const int32_t> tokens, std::span<KvCache* const> caches);
std::span<const float> decode(const Model& model, Workspace& workspace, int32_t token,
                              KvCache& cache);

}  // namespace restkv
