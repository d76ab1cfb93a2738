#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "restkv/engine.h"
#include "server/scheduler/cache_file.h"
#include "server/scheduler/disk_thread.h"
#include "server/scheduler/kept_sequences.h"
#include "server/scheduler/memory_account.h"
#include "server/scheduler/status.h"

namespace restkv::server {

/// Sequences and documents in a folder, where they outlive the process. Sequences go when the
/// folder is full, the least recently used first; documents stay until they are removed.
///
/// All functions are for one thread. Files are written and read on another one.
class DiskCache {
 public:
  struct Options {
    std::string folder;
    size_t limit = 0;  ///< Bytes of all files.
    /// Hears what could not be used or written, and why.
    std::function<void(std::string_view)> log;
  };
  /// Makes the folder, locks it, and looks at the beginnings of its files. `wake`: called on the
  /// other thread when `collect` has something to do. Throws `Error`: kIo (the folder cannot be
  /// made or written), kInvalidArgument (another server uses it).
  DiskCache(const Engine& engine, Options options, std::function<void()> wake);
  ~DiskCache();

  struct Found {
    std::string name;   ///< Of the file.
    size_t tokens = 0;  ///< That the sequence has read.
    size_t bytes = 0;   ///< Of the file.
  };
  /// The longest sequence of more than `longer_than` tokens that has read the beginning of
  /// `tokens`, or all of them, with these options.
  [[nodiscard]] std::optional<Found> find(std::span<const int32_t> tokens, const std::string& key,
                                          size_t longer_than) const;
  /// Reads a sequence that `find` has given. `then` gets it in `collect`, or none if it is damaged.
  /// `memory`: what is promised to it.
  using Then = std::function<void(std::optional<KeptSequence>)>;
  void read(const Found& found, MemoryAccount::Share memory, Then then);
  /// Takes over a sequence, and its memory until it is written. It is dropped if it is there
  /// already, or if too many wait to be written.
  void write(KeptSequence sequence);

  /// That were there at the beginning; to be read.
  [[nodiscard]] const std::map<DocumentId, DocumentInfo>& documents_found() const {
    return documents_found_;
  }
  [[nodiscard]] size_t document_bytes(const DocumentId& id) const;
  void read_document(const DocumentId& id, MemoryAccount::Share memory, Then then);
  /// Writes nothing if it is there already, or on its way. `then`: called when it is on the disk,
  /// or never will be; not before `collect` if it is to be written.
  using Saved = std::function<void(bool saved)>;
  void write_document(const DocumentId& id, std::shared_ptr<const KeptSequence> sequence,
                      const Saved& then);
  void remove_document(const DocumentId& id);

  /// Calls what follows work that is done.
  void collect() { thread_->run_done(); }
  [[nodiscard]] bool can_collect() const { return thread_->has_done(); }  ///< From any thread.
  [[nodiscard]] bool busy() const { return thread_->pending() > 0; }
  /// Memory of sequences that will be free when they are written.
  [[nodiscard]] size_t bytes_in_writing() const { return bytes_in_writing_; }
  /// Writes all of these, the most recently used first, and waits until all is on the disk.
  void finish(std::vector<KeptSequence> sequences);

  [[nodiscard]] const DiskStatus& status() const { return status_; }

 private:
  struct Entry {
    CacheFileName name;
    size_t bytes = 0;    ///< Of the file; while it is being written, about.
    int64_t used = 0;    ///< See `KeptSequence`.
    uint64_t turn = 0;   ///< Tells it from another of the same name.
    bool usable = true;  ///< False: of another model or version.
  };
  using Entries = std::map<std::string, Entry>;

  void lock_folder();
  void look_around();
  [[nodiscard]] std::string path(const std::string& name) const;
  [[nodiscard]] CacheFileName document_name(const DocumentId& id) const;
  /// Removes files that were used before `used` until so many bytes fit. False: they never will.
  bool make_room(size_t bytes, int64_t used);
  /// With its file.
  void remove(Entries::iterator entry);
  void forget(Entries::iterator entry);
  bool enter(const CacheFileName& name, size_t bytes, int64_t used);
  void post_write(const CacheFileName& name, int64_t used,
                  std::shared_ptr<const KeptSequence> sequence, const Saved& then);
  void post_read(const std::string& name, MemoryAccount::Share memory, Then then);
  void log(const std::string& message) const;

  const Engine& engine_;
  Options options_;
  uint64_t model_;  ///< `ModelConfig::fingerprint`.
  Descriptor lock_;
  Entries entries_;
  std::map<DocumentId, DocumentInfo> documents_found_;
  DiskStatus status_;
  uint64_t turn_ = 0;
  size_t in_writing_ = 0;
  size_t bytes_in_writing_ = 0;
  bool finishing_ = false;
  bool said_slow_ = false;
  bool said_failed_ = false;
  bool said_small_ = false;
  std::unique_ptr<DiskThread> thread_;
};

}  // namespace restkv::server
