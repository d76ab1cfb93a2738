#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "hub/hub_name.h"

namespace restkv::hub {

/// A model file of a repository.
struct HubFile {
  std::string path;  ///< Below the repository; `is_safe_path`.
  size_t bytes = 0;
  std::string sha256;  ///< 64 lower-case hex digits.
  bool operator==(const HubFile&) const = default;
};

/// The files of the model that `name` means among those of its repository: one, or all parts of a
/// split one in their order.
///
/// A quantisation is looked for in paths, as a word, in any case of letters; without one it is
/// Q4_K_M, or Q8_0 where there is none, or the only model. Images' encoders (mmproj) and importance
/// matrices are no models. Throws `Error` (kInput) naming what there is instead: if no model fits,
/// more than one does, or a part is not there.
std::vector<HubFile> choose_model(const HubName& name, std::span<const HubFile> files);

/// Whether `word` stands in `path` between characters that are no letters, digits or underscores,
/// in any case of letters.
bool has_word(std::string_view path, std::string_view word);

}  // namespace restkv::hub
