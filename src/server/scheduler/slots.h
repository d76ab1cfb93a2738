#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "restkv/session.h"
#include "server/scheduler/status.h"

/// What a cache holds, counted.
namespace restkv::server {

/// Tokens per head, on average, of layers that see the whole context.
size_t average_kept(const ModelConfig& config, const KvCache& cache);
/// Tokens in the fullest head of these layers.
size_t most_kept(const ModelConfig& config, const KvCache& cache);
/// Where the cache still has the tokens that the session has read, all of them in `tokens`. None:
/// compact positions have been given out anew, and where rows came from is forgotten.
std::optional<KeptTokens> kept_tokens(const ModelConfig& config, const Session& session,
                                      std::vector<int32_t> tokens);
/// `request` and `answer` are left to the caller.
SlotInfo slot_of(const ModelConfig& config, const Session& session, SlotInfo::State state);

}  // namespace restkv::server
