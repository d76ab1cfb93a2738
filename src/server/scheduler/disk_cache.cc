#include "server/scheduler/disk_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "base/system.h"
#include "restkv/error.h"
#include "restkv/sparse.h"
#include "server/scheduler/job.h"
#include "server/scheduler/slots.h"

namespace restkv::server {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLockName = "restkv-cache.lock";
/// Sequences that may wait to be written. Their memory is not free until then.
constexpr size_t kMostInWriting = 8;
/// Of a file, beside caches and tokens.
constexpr size_t kFrameBytes = 4096;

std::string reason(int error) { return std::generic_category().message(error); }

struct FileInfo {
  size_t bytes = 0;
  int64_t used = 0;
};

/// None: there is no such regular file.
std::optional<FileInfo> information(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return FileInfo{.bytes = static_cast<size_t>(info.st_size),
                  .used = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

/// The time of a file says when it was used; only the order of removal depends on it.
void set_used(const std::string& path, int64_t used) {
  const timespec time{used / 1'000'000'000, used % 1'000'000'000};
  const timespec times[] = {time, time};
  (void)::utimensat(AT_FDCWD, path.c_str(), times, 0);
}

/// Whether a file is useless. One that cannot be opened just now may be whole.
bool is_damage(const Error& error, const std::string& path) {
  if (error.code() != ErrorCode::kInput) return false;
  return static_cast<bool>(Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
}

size_t expected_bytes(const KeptSequence& sequence) {
  return sequence.session.allocated_bytes() + sequence.tokens.size() * sizeof(int32_t) +
         kFrameBytes;
}

std::string names_of(const std::vector<std::string>& names) {
  std::string text = names[0];
  if (names.size() > 1) text += fmt::format(" and {} more", names.size() - 1);
  return text;
}

bool is_unfinished_file(std::string_view name) {
  return name.starts_with("restkv-") && name.ends_with(".part");
}

}  // namespace

DiskCache::DiskCache(const Engine& engine, Options options, std::function<void()> wake)
    : engine_(engine), options_(std::move(options)), model_(engine.model().config().fingerprint) {
  lock_folder();
  look_around();
  thread_ = std::make_unique<DiskThread>(std::move(wake));
}

DiskCache::~DiskCache() = default;

void DiskCache::lock_folder() {
  std::error_code error;
  if (fs::create_directories(options_.folder, error)) {
    // Files hold what users have written.
    fs::permissions(options_.folder, fs::perms::owner_all, error);
  }
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::kIo, fmt::format("cache_dir is {}, which cannot be used: {}; choose a "
                                            "folder that can be written",
                                            options_.folder, why));
  };
  if (error) fail(error.message());
  const std::string name = path(kLockName);
  lock_ = Descriptor(::open(name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!lock_) fail(reason(errno));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return;
  if (errno != EWOULDBLOCK) fail(fmt::format("{} cannot be locked: {}", name, reason(errno)));
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("cache_dir is {}, which another server is using; give each its own",
                          options_.folder));
}

void DiskCache::look_around() {
  std::vector<std::string> foreign;
  std::vector<std::string> of_others;
  std::error_code error;
  for (fs::directory_iterator each(options_.folder, error), end; !error && each != end;
       each.increment(error)) {
    const std::string name = each->path().filename().string();
    if (name == kLockName || is_unfinished_file(name)) continue;
    const std::optional<CacheFileName> parsed = CacheFileName::parse(name);
    const std::optional<FileInfo> info = information(path(name));
    if (!parsed || !info) {
      foreign.push_back(name);
      continue;
    }
    const auto entry =
        entries_.emplace(name, Entry{.name = *parsed, .bytes = info->bytes, .used = info->used})
            .first;
    status_.bytes += info->bytes;
    if (parsed->model != model_) {
      entry->second.usable = false;
      of_others.push_back(name);
      continue;
    }
    try {
      const CacheHead head = read_cache_head(engine_.model(), path(name), *parsed);
      if (parsed->document.empty()) continue;
      const size_t tokens = head.note.tokens.size();
      documents_found_[parsed->document] = {
          .id = parsed->document,
          .state = DocumentInfo::State::kReading,
          .tokens = tokens,
          .kept = head.note.kept,
          .kv_bytes = head.note.kv_bytes,
          .full_kv_bytes = engine_.model().config().kv_bytes(tokens),
          .saved = true,
          .session = head.options,
          .label = head.note.label};
    } catch (const Error& why) {
      const bool damaged = is_damage(why, path(name));
      log(fmt::format("{}; it is {}", why.what(), damaged ? "removed" : "not used"));
      if (damaged) {
        remove(entry);
      } else {
        entry->second.usable = false;
      }
    }
  }
  if (error) {
    throw Error(ErrorCode::kIo, fmt::format("cannot read the folder {}: {}; choose another for "
                                            "cache_dir",
                                            options_.folder, error.message()));
  }
  if (!foreign.empty()) {
    log(fmt::format("{}: {} did not come from a server's cache and is left alone", options_.folder,
                    names_of(foreign)));
  }
  if (!of_others.empty()) {
    log(fmt::format("{}: {} belongs to another model and is not used", options_.folder,
                    names_of(of_others)));
  }
  (void)make_room(0, nanoseconds_since_1970());
  status_.files = entries_.size();
}

std::string DiskCache::path(const std::string& name) const {
  return (fs::path(options_.folder) / name).string();
}

CacheFileName DiskCache::document_name(const DocumentId& id) const {
  CacheFileName name;
  name.model = model_;
  name.document = id;
  return name;
}

std::optional<DiskCache::Found> DiskCache::find(std::span<const int32_t> tokens,
                                                const std::string& key, size_t longer_than) const {
  const uint64_t key_hash = hash_of(key);
  std::multimap<size_t, Entries::const_iterator> candidates;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const CacheFileName& name = it->second.name;
    if (!it->second.usable || !name.document.empty() || name.key != key_hash) continue;
    if (name.tokens > longer_than && name.tokens <= tokens.size()) {
      candidates.emplace(name.tokens, it);
    }
  }
  std::optional<Found> longest;
  PrefixHashes hashes(tokens);
  for (const auto& [count, it] : candidates) {
    if (hashes.of(count) != it->second.name.content) continue;
    longest = Found{.name = it->first, .tokens = count, .bytes = it->second.bytes};
  }
  return longest;
}

void DiskCache::read(const Found& found, MemoryAccount::Share memory, Then then) {
  const auto entry = entries_.find(found.name);
  entry->second.used = nanoseconds_since_1970();
  post_read(found.name, std::move(memory), [this, then = std::move(then)](auto sequence) {
    if (sequence) ++status_.hits;
    then(std::move(sequence));
  });
}

void DiskCache::post_read(const std::string& name, MemoryAccount::Share memory, Then then) {
  struct Work {
    std::optional<Session> session;
    CacheNote note;
    std::optional<Error> error;
    MemoryAccount::Share memory;
  };
  const auto work = std::make_shared<Work>();
  work->memory = std::move(memory);
  const Entry& asked = entries_.at(name);
  const int64_t used = asked.used;
  const uint64_t turn = asked.turn;
  thread_->post(
      [this, work, name, used, file = asked.name] {
        try {
          work->session.emplace(read_cache_file(engine_, path(name), file, work->note));
          set_used(path(name), used);
        } catch (...) {
          work->error = as_error(std::current_exception());
        }
      },
      [this, work, name, turn, then = std::move(then)] {
        if (work->error) {
          const auto entry = entries_.find(name);
          if (entry == entries_.end() || entry->second.turn != turn) return then(std::nullopt);
          // What cannot be opened just now may be whole.
          const bool damaged = is_damage(*work->error, path(name));
          log(fmt::format("{}; it is {}", work->error->what(), damaged ? "removed" : "not used"));
          if (damaged) {
            remove(entry);
          } else {
            entry->second.usable = false;
          }
          return then(std::nullopt);
        }
        KeptSequence sequence{.tokens = std::move(work->note.tokens),
                              .key = std::move(work->note.key),
                              .session = std::move(*work->session),
                              .memory = std::move(work->memory),
                              .info = {}};
        const bool is_document = !work->note.document.empty();
        sequence.info = slot_of(engine_.model().config(), sequence.session,
                                is_document ? SlotInfo::State::kDocument : SlotInfo::State::kKept);
        sequence.info.prompt_tokens = sequence.tokens.size();
        sequence.memory.resize(sequence.session.allocated_bytes() +
                               sequence.tokens.size() * sizeof(int32_t) + sizeof(KeptSequence));
        then(std::move(sequence));
      });
}

void DiskCache::write(KeptSequence sequence) {
  CacheFileName name;
  name.model = model_;
  name.key = hash_of(sequence.key);
  name.tokens = sequence.tokens.size();
  name.content = PrefixHashes(sequence.tokens).of(sequence.tokens.size());
  if (const auto there = entries_.find(name.text()); there != entries_.end()) {
    if (there->second.usable) there->second.used = std::max(there->second.used, sequence.used);
    return;
  }
  if (in_writing_ >= kMostInWriting && !finishing_) {
    ++status_.dropped;
    if (!std::exchange(said_slow_, true)) {
      log(fmt::format("{}: sequences come faster than the disk takes them; some are dropped",
                      options_.folder));
    }
    return;
  }
  const int64_t used = sequence.used;
  const size_t bytes = expected_bytes(sequence);
  if (!enter(name, bytes, used)) {
    ++status_.dropped;
    // Otherwise it only is the oldest.
    if (bytes > options_.limit && !std::exchange(said_small_, true)) {
      log(fmt::format("a sequence of {} does not fit into cache_size, {}; raise it",
                      human_bytes(static_cast<double>(bytes)),
                      human_bytes(static_cast<double>(options_.limit))));
    }
    return;
  }
  post_write(name, used, std::make_shared<const KeptSequence>(std::move(sequence)), [](bool) {});
}

bool DiskCache::enter(const CacheFileName& name, size_t bytes, int64_t used) {
  if (!make_room(bytes, used)) return false;
  entries_.insert_or_assign(name.text(),
                            Entry{.name = name, .bytes = bytes, .used = used, .turn = ++turn_});
  status_.bytes += bytes;
  status_.files = entries_.size();
  return true;
}

void DiskCache::post_write(const CacheFileName& name, int64_t used,
                           std::shared_ptr<const KeptSequence> sequence, const Saved& then) {
  struct Work {
    std::shared_ptr<const KeptSequence> sequence;
    CacheNote note;
    size_t bytes = 0;
    std::optional<Error> error;
  };
  const auto work = std::make_shared<Work>();
  // A document stays in memory anyway.
  const size_t memory = name.document.empty() ? sequence->memory.bytes() : 0;
  bytes_in_writing_ += memory;
  ++in_writing_;
  const KvCache& cache = sequence->session.cache();
  work->note = {.key = sequence->key,
                .sparse = describe_sparse(sequence->session.options().sparse),
                .document = name.document,
                .label = sequence->label,
                .tokens = sequence->tokens,
                .kept = average_kept(engine_.model().config(), cache),
                .kv_bytes = cache.kept_bytes()};
  work->sequence = std::move(sequence);
  thread_->post(
      [this, work, used, text = name.text()] {
        try {
          write_cache_file(path(text), work->sequence->session, work->note);
          set_used(path(text), used);
          work->bytes = information(path(text)).value_or(FileInfo()).bytes;
        } catch (...) {
          work->error = as_error(std::current_exception());
        }
      },
      [this, work, memory, then, turn = turn_, text = name.text()] {
        work->sequence.reset();
        bytes_in_writing_ -= memory;
        --in_writing_;
        const auto entry = entries_.find(text);
        const bool is_there = entry != entries_.end() && entry->second.turn == turn;
        if (work->error) {
          ++status_.dropped;
          if (is_there) forget(entry);
          if (!std::exchange(said_failed_, true)) {
            log(fmt::format("{}; sequences are dropped until this succeeds", work->error->what()));
          }
          return then(false);
        }
        said_failed_ = false;
        ++status_.saved;
        if (!is_there) return then(false);
        status_.bytes = status_.bytes - entry->second.bytes + work->bytes;
        entry->second.bytes = work->bytes;
        (void)make_room(0, nanoseconds_since_1970());
        then(true);
      });
}

bool DiskCache::make_room(size_t bytes, int64_t used) {
  while (status_.bytes + bytes > options_.limit) {
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (!it->second.name.document.empty()) continue;
      if (it->second.used > used) continue;
      if (oldest == entries_.end() || it->second.used < oldest->second.used) oldest = it;
    }
    if (oldest == entries_.end()) return false;
    remove(oldest);
  }
  return true;
}

void DiskCache::remove(Entries::iterator entry) {
  const std::string file = path(entry->first);
  forget(entry);
  if (thread_ == nullptr) {
    ::unlink(file.c_str());
    return;
  }
  // After what was posted for it before.
  thread_->post([file] { ::unlink(file.c_str()); }, [] {});
}

void DiskCache::forget(Entries::iterator entry) {
  status_.bytes -= entry->second.bytes;
  entries_.erase(entry);
  status_.files = entries_.size();
}

size_t DiskCache::document_bytes(const DocumentId& id) const {
  const auto entry = entries_.find(document_name(id).text());
  return entry == entries_.end() ? 0 : entry->second.bytes;
}

void DiskCache::read_document(const DocumentId& id, MemoryAccount::Share memory, Then then) {
  post_read(document_name(id).text(), std::move(memory), std::move(then));
}

void DiskCache::write_document(const DocumentId& id, std::shared_ptr<const KeptSequence> sequence,
                               const Saved& then) {
  const CacheFileName name = document_name(id);
  if (const auto there = entries_.find(name.text()); there != entries_.end()) {
    return then(there->second.usable);
  }
  const size_t bytes = expected_bytes(*sequence);
  if (!enter(name, bytes, nanoseconds_since_1970())) {
    ++status_.dropped;
    log(
        fmt::format("document {} of {} does not fit into cache_size, {}, beside other documents; "
                    "it will not be there after a restart",
                    id, human_bytes(static_cast<double>(bytes)),
                    human_bytes(static_cast<double>(options_.limit))));
    return then(false);
  }
  post_write(name, nanoseconds_since_1970(), std::move(sequence), then);
}

void DiskCache::remove_document(const DocumentId& id) {
  const auto entry = entries_.find(document_name(id).text());
  if (entry != entries_.end()) remove(entry);
}

void DiskCache::finish(std::vector<KeptSequence> sequences) {
  finishing_ = true;
  for (KeptSequence& sequence : sequences) write(std::move(sequence));
  thread_->finish();
}

void DiskCache::log(const std::string& message) const {
  if (options_.log) options_.log(message);
}

}  // namespace restkv::server
