#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/stream.h"
#include "restkv/model.h"
#include "restkv/session.h"

namespace restkv {

/// All that a session knows beyond its model.
struct SessionState {
  SessionOptions options;
  CacheStream stream;
  std::vector<float> logits;
  size_t tokens = 0;
};

struct Snapshot {
  SessionState state;
  std::string note;
};

/// See `Session::save`. The file, little-endian:
///
///     magic "rkv-snap" | version u32 | 0 u32 | file bytes u64 | model fingerprint u64
///     body: description of the model, note, options, counts, logits, cache, memory of each layer
///     XXH3 (64 bits) of all bytes before it
void save_snapshot(const Model& model, const SessionState& state, std::string_view note,
                   const std::string& path);

/// Throws `Error` (kInvalidArgument), as `save_snapshot` does, if there is a file at `path` that is
/// neither empty nor a snapshot.
void require_replaceable_by_snapshot(const std::string& path);

/// See `Session::load`. Nothing of the body is looked at before size, checksum and model agree.
Snapshot load_snapshot(const Model& model, const std::string& path);

}  // namespace restkv
