#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hub/hub.h"
#include "hub/hub_name.h"

namespace restkv::hub {

/// A model in a folder of models.
struct StoredModel {
  HubName name;          ///< Names the file, or the first of its parts.
  std::string path;      ///< Of that file.
  size_t bytes = 0;      ///< Of all that is there.
  bool complete = true;  ///< False: its download was stopped.
};

/// A folder of downloaded models: OWNER/REPOSITORY/ has the files under the names of the hub, and
/// - FILE.sha256 for each one that is whole and was checked, as `sha256sum -c` reads it,
/// - FILE.xxxxxxxxxxxx.part for one that is not whole yet, with the beginning of its SHA-256,
/// - files.json, the list of the hub when the latest model was taken from it,
/// - .lock, which a download holds.
///
/// Every failure throws `Error`: kInput (names, the hub), kIo (the folder).
class ModelStore {
 public:
  explicit ModelStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

  /// The path of the model, of its first part if it is split; none if it is not here as a whole.
  /// The hub is not asked: what a name without a file means is what it meant the last time.
  [[nodiscard]] std::optional<std::string> find(const HubName& name) const;

  struct Watch {
    /// Tells what may take long: "waiting for ...".
    std::function<void(const std::string& what)> tell;
    /// `done` of `all` bytes are here.
    std::function<void(size_t done, size_t all)> progress;
  };
  /// The path of the model as the hub has it now. Downloads what is not here or is another version;
  /// goes on with what a stopped download has left. A file gets its name when its SHA-256 is right.
  std::string fetch(const HubName& name, Hub& hub, const Watch& watch) const;

  /// All models that were downloaded, or begun to be, by name. Other files, which somebody else has
  /// put there, are none of them.
  [[nodiscard]] std::vector<StoredModel> list() const;

  /// Removes the models that `name` means and all that belongs to them; without a file or
  /// quantisation in the name, the whole repository. Returns them. Throws `Error` (kInput) if there
  /// is none, or while they are being downloaded.
  std::vector<StoredModel> remove(const HubName& name) const;

 private:
  [[nodiscard]] std::filesystem::path place(const HubName& name) const;

  std::filesystem::path folder_;
};

}  // namespace restkv::hub
