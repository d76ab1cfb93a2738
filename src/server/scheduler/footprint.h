#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>

#include "restkv/model.h"
#include "restkv/session.h"

/// How much memory work takes at most, before it is begun.
namespace restkv::server {

struct PlannedTokens {
  size_t before = 0;   ///< That the sequence has read already.
  size_t held = 0;     ///< Of these, per KV head in its cache, in the fullest head.
  size_t prompt = 0;   ///< To be read.
  size_t written = 0;  ///< To be decoded then.
  /// No cut comes between: prompt and answer are `Session::reserve`d.
  bool reserved = false;
  /// Each token of the prompt gets its log-probability, with so many others beside it.
  std::optional<size_t> scored = {};
};

/// Bytes.
struct Footprint {
  size_t sequence = 0;  ///< Of a sequence when it is largest, all that it keeps between calls.
  size_t prompt = 0;    ///< To work in while its prompt is read.

  /// For a prompt that is read once and then goes on in `answers` ways.
  [[nodiscard]] size_t total(size_t answers) const {
    return std::max(prompt + sequence, answers * sequence);
  }
};

Footprint footprint(const Model& model, const SessionOptions& options, const PlannedTokens& tokens);

/// What an engine works in besides, whoever is served.
size_t engine_footprint(const Model& model);

}  // namespace restkv::server
