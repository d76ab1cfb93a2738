#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "engine/sequence.h"
#include "restkv/model.h"

namespace restkv {

struct Snapshot {
  Sequence sequence;
  std::string note;
};

/// What can be said of a snapshot by its beginning.
struct SnapshotHead {
  std::string model;  ///< `Model::description` of the model that it was made with.
  std::string note;
  SessionOptions options;  ///< Without the sparse pattern and the words of the repeat pass.
  size_t tokens = 0;       ///< That were read.
  size_t kept = 0;         ///< Cached tokens per head of a layer of average budget.
};

/// What a snapshot says of a session's options, the words of the repeat pass included, for other
/// processes of the same version.
void write_session_options(const SessionOptions& options, ByteWriter& out);
SessionOptions read_session_options(ByteReader& in);

/// Whether a file begins as a snapshot does.
bool is_snapshot(const std::string& path);

/// See `Session::save`. The file, little-endian:
///
///     magic "rkv-snap" | version u32 | 0 u32 | file bytes u64 | model fingerprint u64
///     body: description of the model, note, options, counts, logits, cache, memory of each layer,
///           words of the repeat pass, watched numbers of each layer, biases of rows
///     XXH3 (64 bits) of all bytes before it
void save_snapshot(const Model& model, const Sequence& sequence, std::string_view note,
                   const std::string& path);

/// Throws `Error` (kInvalidArgument), as `save_snapshot` does, if there is a file at `path` that is
/// neither empty nor a snapshot.
void require_replaceable_by_snapshot(const std::string& path);

/// The beginning of a snapshot: version, size and model are checked, the checksum is not. Throws as
/// `load_snapshot` does.
SnapshotHead read_snapshot_head(const Model& model, const std::string& path);
/// The same of any model's.
SnapshotHead read_snapshot_head(const std::string& path);

/// See `Session::load`. Size, checksum and model are checked before the body is read.
Snapshot load_snapshot(const Model& model, const std::string& path);

}  // namespace restkv
