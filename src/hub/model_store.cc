#include "hub/model_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/descriptor.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "base/system.h"
#include "model/split_name.h"
#include "restkv/error.h"

namespace restkv::hub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kListName = "files.json";
constexpr const char* kLockName = ".lock";
constexpr std::string_view kSum = ".sha256";
constexpr std::string_view kPart = ".part";
constexpr size_t kPartDigits = 12;

[[noreturn]] void fail(const fs::path& path, const std::string& what, int error) {
  const std::string_view remedy = error == ENOSPC || error == EDQUOT
                                      ? "make room and try again: it goes on where it stopped"
                                      : "choose another folder with RESTKV_MODELS";
  throw Error(ErrorCode::kIo, fmt::format("cannot {} {}: {}; {}", what, path.string(),
                                          std::generic_category().message(error), remedy));
}

void make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail(path, "make the folder", error.value());
}

// ---- A repository's folder ------------------------------------------------------------------

fs::path with_ending(const fs::path& file, std::string_view ending) {
  return file.string() + std::string(ending);
}

fs::path part_of(const fs::path& file, const HubFile& of) {
  return with_ending(file, fmt::format(".{:.{}}{}", of.sha256, kPartDigits, kPart));
}

/// "model.gguf" of "model.gguf.0123456789ab.part".
std::optional<std::string> file_of_part(const std::string& name) {
  const size_t added = 1 + kPartDigits + kPart.size();
  if (!name.ends_with(kPart) || name.size() <= added) return std::nullopt;
  std::string file = name.substr(0, name.size() - added);
  return file.ends_with(kModelEnding) ? std::optional(std::move(file)) : std::nullopt;
}

/// The SHA-256 of a file that was checked when it came; none if it is not whole.
std::optional<std::string> checked_sum(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error) || error) return std::nullopt;
  const std::string line = first_bytes(with_ending(file, kSum).string(), 64);
  return line.size() == 64 ? std::optional(line) : std::nullopt;
}

void write_sum(const fs::path& file, const std::string& sha256) {
  write_file_atomically(with_ending(file, kSum).string(),
                        fmt::format("{}  {}\n", sha256, file.filename().string()));
}

void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) fail(path, "remove", error.value());
}

/// Removes what stopped downloads of a file have left.
void remove_parts(const fs::path& file) {
  std::vector<fs::path> parts;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(file.parent_path(), ignored)) {
    const auto of = file_of_part(entry.path().filename().string());
    if (of && *of == file.filename()) parts.push_back(entry.path());
  }
  std::ranges::for_each(parts, remove_file);
}

/// The list that was kept; empty if there is none or it is damaged, which the next download mends.
std::vector<HubFile> kept_list(const fs::path& place) {
  std::vector<HubFile> files;
  std::error_code ignored;
  const std::string path = (place / kListName).string();
  if (!fs::exists(path, ignored)) return files;
  try {
    const Json kept = read_json(path);
    for (const Json& file : list_field(kept, "files")) {
      files.push_back({.path = text_field(file, "path"),
                       .bytes = count_field(file, "bytes"),
                       .sha256 = text_field(file, "sha256")});
      if (!is_safe_path(files.back().path)) return {};
    }
  } catch (const Error&) {
    return {};
  }
  return files;
}

void keep_list(const fs::path& place, const std::vector<HubFile>& files) {
  Json list = Json::array();
  for (const HubFile& file : files) {
    list.push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  write_file_atomically((place / kListName).string(),
                        Json::object({{"files", list}}).dump(1) + "\n");
}

/// The lock of a repository's folder. A file system without locks goes without.
class Lock {
 public:
  /// Whether somebody else may hold it: then `wait` is called, or the result is not `held`.
  Lock(const fs::path& place, const std::function<void()>& wait) {
    const fs::path path = place / kLockName;
    while (!held_) {
      make_folders(place);
      file_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
      if (!file_ && errno == ENOENT) continue;  // the folder has just been removed
      if (!file_) fail(path, "write", errno);
      if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
        held_ = errno != EWOULDBLOCK;
        if (held_ || !wait) return;
        wait();
        while (::flock(file_.get(), LOCK_EX) != 0 && errno == EINTR) {
        }
      }
      // Its holder may have removed the file.
      struct stat mine {};
      struct stat there {};
      held_ = ::fstat(file_.get(), &mine) == 0 && ::stat(path.c_str(), &there) == 0 &&
              mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
    }
  }
  [[nodiscard]] bool held() const { return held_; }

 private:
  Descriptor file_;
  bool held_ = false;
};

// ---- Downloads --------------------------------------------------------------------------------

size_t size_of(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : size;
}

/// A file on its way: what a stopped download has left, and what comes.
class Part {
 public:
  Part(fs::path path, const HubFile& file)
      : path_(std::move(path)),
        file_(file),
        descriptor_(::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666)) {
    if (!descriptor_) fail(path_, "write", errno);
    take_what_is_here();
  }

  [[nodiscard]] size_t size() const { return size_; }

  /// The next byte is number `first`: the one behind those that are here, or 0.
  void begin_at(size_t first) {
    if (first == size_) return;
    if (::ftruncate(descriptor_.get(), 0) != 0 || ::lseek(descriptor_.get(), 0, SEEK_SET) != 0) {
      fail(path_, "write", errno);
    }
    sha_.restart();
    size_ = 0;
  }

  void write(std::string_view bytes) {
    if (bytes.size() > file_.bytes - size_) {
      discard();
      throw Error(ErrorCode::kInput,
                  fmt::format("{} is longer than the {} bytes that the hub's list says; try again "
                              "later, or another hub (HF_ENDPOINT)",
                              file_.path, file_.bytes));
    }
    sha_.update(bytes);
    size_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(path_, "write", errno);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }

  /// Gives the file its name, if it is the right one.
  void commit(const fs::path& path) {
    if (size_ != file_.bytes) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("{} ended after {} of {} bytes; try again: the download goes on there",
                      file_.path, size_, file_.bytes));
    }
    if (const std::string sum = sha_.finish(); sum != file_.sha256) {
      discard();
      throw Error(
          ErrorCode::kInput,
          fmt::format("{} has the SHA-256 {}, but the hub's list says {}: it was damaged on "
                      "its way, or has just been changed. Nothing of it is kept; try again",
                      file_.path, sum, file_.sha256));
    }
    if (::fsync(descriptor_.get()) != 0) fail(path_, "write", errno);
    std::error_code error;
    fs::rename(path_, path, error);
    if (error) fail(path, "write", error.value());
    write_sum(path, file_.sha256);
  }

 private:
  void take_what_is_here() {
    std::array<char, 1 << 16> block;
    while (true) {
      const ssize_t got = ::read(descriptor_.get(), block.data(), block.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(path_, "read", errno);
      if (got == 0) break;
      sha_.update({block.data(), static_cast<size_t>(got)});
      size_ += static_cast<size_t>(got);
    }
    if (size_ > file_.bytes) begin_at(0);
  }
  void discard() const { ::unlink(path_.c_str()); }

  fs::path path_;
  const HubFile& file_;
  Descriptor descriptor_;
  Sha256 sha_;
  size_t size_ = 0;
};

/// Refuses a download for which the disk has no room.
void require_room(const fs::path& place, size_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(place, error);
  if (error || space.available >= bytes) return;
  throw Error(ErrorCode::kIo,
              fmt::format("{} has {} left, and the download needs {}; remove models (restkv models "
                          "remove), or choose another folder with RESTKV_MODELS",
                          place.string(), human_bytes(static_cast<double>(space.available)),
                          human_bytes(static_cast<double>(bytes))));
}

}  // namespace

fs::path ModelStore::place(const HubName& name) const {
  return folder_ / name.owner / name.repository;
}

std::optional<std::string> ModelStore::find(const HubName& name) const {
  const fs::path place = this->place(name);
  const std::vector<HubFile> list = kept_list(place);
  if (list.empty()) return std::nullopt;
  std::vector<HubFile> files;
  try {
    files = choose_model(name, list);
  } catch (const Error&) {
    return std::nullopt;  // the hub may have it now
  }
  const auto is_here = [&](const HubFile& file) {
    return checked_sum(place / file.path).has_value();
  };
  if (!std::ranges::all_of(files, is_here)) return std::nullopt;
  return (place / files.front().path).string();
}

std::string ModelStore::fetch(const HubName& name, Hub& hub, const Watch& watch) const {
  const fs::path place = this->place(name);
  // Asked first: a name that is wrong leaves no folder.
  std::vector<HubFile> list = hub.list(name);
  std::vector<HubFile> files = choose_model(name, list);
  const Lock lock(
      place, [&] { watch.tell(fmt::format("waiting for another download of {}", name.place())); });

  // All that is old goes first, so that parts of two versions never stand beside each other.
  std::vector<HubFile> missing;
  size_t all = 0;
  size_t done = 0;
  for (const HubFile& file : files) {
    const fs::path path = place / file.path;
    std::error_code ignored;
    all += file.bytes;
    std::optional<std::string> sum = checked_sum(path);
    if (!sum && size_of(path) == file.bytes && sha256_of_file(path) == file.sha256) {
      write_sum(path, file.sha256);
      sum = file.sha256;
    }
    if (sum == file.sha256) {
      done += file.bytes;
      continue;
    }
    if (!sum && fs::exists(path, ignored)) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{} is in the way: it is not the file that the hub has, and was not "
                              "downloaded. Move it away, or choose another folder with "
                              "RESTKV_MODELS",
                              path.string()));
    }
    remove_file(with_ending(path, kSum));  // first: what is left without it is not whole
    remove_file(path);
    missing.push_back(file);
  }
  size_t needed = 0;
  for (const HubFile& file : missing) {
    needed += file.bytes - std::min(file.bytes, size_of(part_of(place / file.path, file)));
  }
  require_room(place, needed);

  for (const HubFile& file : missing) {
    const fs::path path = place / file.path;
    make_folders(path.parent_path());
    Part part(part_of(path, file), file);
    watch.progress(done + part.size(), all);
    hub.download(name, file, part.size(),
                 {.begin = [&](size_t first) { part.begin_at(first); },
                  .write =
                      [&](std::string_view bytes) {
                        part.write(bytes);
                        watch.progress(done + part.size(), all);
                      }});
    part.commit(path);
    remove_parts(path);  // of other versions
    done += file.bytes;
  }
  keep_list(place, list);
  return (place / files.front().path).string();
}

std::vector<StoredModel> ModelStore::list() const {
  std::map<std::string, StoredModel> models;  // by their names
  const auto add = [&](const HubName& repository, const std::string& file, size_t bytes,
                       bool complete) {
    const auto split = parse_split_name(file);
    HubName name = repository;
    name.which = split ? split_path(*split, 1) : file;
    const auto [place, is_new] = models.try_emplace(name.text());
    StoredModel& model = place->second;
    if (is_new) {
      model = {.name = name, .path = (this->place(name) / name.which).string()};
      if (split) {  // complete if all parts are
        for (size_t i = 1; complete && i <= split->count; ++i) {
          model.complete =
              model.complete && checked_sum(this->place(name) / split_path(*split, i)).has_value();
        }
      }
    }
    model.bytes += bytes;
    model.complete = model.complete && complete;
  };
  std::error_code error;
  for (fs::recursive_directory_iterator each(folder_, error), end; !error && each != end;
       each.increment(error)) {
    std::error_code ignored;
    if (!each->is_regular_file(ignored)) continue;
    const fs::path below = each->path().lexically_relative(folder_);
    const auto parts = std::distance(below.begin(), below.end());
    if (parts < 3) continue;
    auto part = below.begin();
    HubName repository;
    repository.owner = (part++)->string();
    repository.repository = (part++)->string();
    const std::string file =
        each->path().lexically_relative(folder_ / repository.place()).generic_string();
    const size_t bytes = size_of(each->path());
    if (file.ends_with(kModelEnding) && checked_sum(each->path())) {
      add(repository, file, bytes, true);
    } else if (const auto of = file_of_part(file)) {
      add(repository, *of, bytes, false);
    }
  }
  std::vector<StoredModel> list;
  for (auto& [name, model] : models) list.push_back(std::move(model));
  return list;
}

std::vector<StoredModel> ModelStore::remove(const HubName& name) const {
  const fs::path place = this->place(name);
  std::vector<StoredModel> removed;
  for (StoredModel& model : list()) {
    if (model.name.place() != name.place()) continue;
    const bool meant = name.which.empty() || model.name.which == name.which ||
                       (name.names_file() ? fs::path(model.name.which).filename() == name.which
                                          : has_word(model.name.which, name.which));
    if (meant) removed.push_back(std::move(model));
  }
  std::error_code ignored;
  if (removed.empty()) {
    throw Error(ErrorCode::kInput, fmt::format("{} is not in {}; restkv models lists what is",
                                               name.text(), folder_.string()));
  }
  const Lock lock(place, nullptr);
  if (!lock.held()) {
    throw Error(ErrorCode::kInput,
                fmt::format("{} is being downloaded; end that first", name.place()));
  }
  for (const StoredModel& model : removed) {
    const auto split = parse_split_name(model.name.which);
    for (size_t i = 1; i <= (split ? split->count : 1); ++i) {
      const fs::path file = place / (split ? split_path(*split, i) : model.name.which);
      remove_file(with_ending(file, kSum));
      remove_file(file);
      remove_parts(file);
    }
    const fs::path folder = (place / model.name.which).parent_path();
    if (folder != place) fs::remove(folder, ignored);  // if nothing else is in it
  }
  const std::vector<StoredModel> left = list();
  const bool is_empty = std::ranges::none_of(
      left, [&](const StoredModel& model) { return model.name.place() == name.place(); });
  if (is_empty) {
    remove_file(place / kListName);
    remove_file(place / kLockName);
    fs::remove(place, ignored);
    fs::remove(place.parent_path(), ignored);
  }
  return removed;
}

}  // namespace restkv::hub
