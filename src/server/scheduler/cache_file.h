#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/engine.h"
#include "restkv/session.h"
#include "server/scheduler/status.h"

/// One file of a cache folder: a snapshot of a session, in whose note is what the session does not
/// know. Its name says what it is for, so that nothing has to be read to find it.
namespace restkv::server {

/// A document, or a sequence that has read certain tokens with certain options.
struct CacheFileName {
  uint64_t model = 0;    ///< `ModelConfig::fingerprint`.
  DocumentId document;   ///< Empty: a sequence, which the following describe.
  uint64_t key = 0;      ///< Hash of its `session_key`.
  size_t tokens = 0;     ///< How many it has read.
  uint64_t content = 0;  ///< Hash of these.

  [[nodiscard]] std::string text() const;
  /// None: it is not the name of such a file.
  static std::optional<CacheFileName> parse(std::string_view name);
};

/// Hash of a `session_key`.
uint64_t hash_of(std::string_view key);

/// Hashes of ever longer beginnings of a row of tokens.
class PrefixHashes {
 public:
  explicit PrefixHashes(std::span<const int32_t> tokens);
  ~PrefixHashes();
  PrefixHashes(const PrefixHashes&) = delete;
  PrefixHashes& operator=(const PrefixHashes&) = delete;
  /// Of the first `count` tokens; not less than the last time.
  [[nodiscard]] uint64_t of(size_t count);

 private:
  std::span<const int32_t> tokens_;
  size_t added_ = 0;
  void* state_;
};

/// What is beside a session in its file.
struct CacheNote {
  std::string key;              ///< `session_key`.
  std::string sparse;           ///< `describe_sparse` of its prompts, which a snapshot leaves out.
  DocumentId document;          ///< Empty: none.
  std::string label = {};       ///< Of the document.
  std::vector<int32_t> tokens;  ///< All that it has read.
  size_t kept = 0;              ///< Tokens per KV head, on average.
  size_t kv_bytes = 0;          ///< Of the kept rows.
};

struct CacheHead {
  CacheNote note;
  SessionOptions options;
};

/// Writes a file that appears whole or not at all. Throws `Error` as `Session::save` does.
void write_cache_file(const std::string& path, const Session& session, const CacheNote& note);
/// The beginning of the file. Throws `Error`: kInput (damaged, of another model, or not what its
/// name says), kUnsupported (of another version).
CacheHead read_cache_head(const Model& model, const std::string& path, const CacheFileName& name);
/// All of it, checked. Throws as `read_cache_head` does.
Session read_cache_file(const Engine& engine, const std::string& path, const CacheFileName& name,
                        CacheNote& note);

}  // namespace restkv::server
