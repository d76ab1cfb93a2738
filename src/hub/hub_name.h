#pragma once

#include <string>
#include <string_view>

namespace restkv::hub {

/// How names of model files end.
inline constexpr std::string_view kModelEnding = ".gguf";

/// The name of a model at a hub: "hf:owner/repository", "hf:owner/repository:Q4_K_M" or
/// "hf:owner/repository:folder/model.gguf".
struct HubName {
  std::string owner;
  std::string repository;
  std::string which;  ///< A quantisation or a file; empty: the usual one.

  /// "owner/repository"
  [[nodiscard]] std::string place() const;
  /// As it is written.
  [[nodiscard]] std::string text() const;
  /// Whether `which` is a file.
  [[nodiscard]] bool names_file() const;
};

/// Whether a text means a model at a hub, rightly written or not: it begins with "hf:".
bool is_hub_name(std::string_view text);
/// Throws `Error` (kInvalidArgument) naming the text and what is expected.
HubName parse_hub_name(std::string_view text);

/// Whether a path below a repository can be one below a folder of this machine: relative, of
/// printable ASCII, and nowhere "..", hidden or empty.
bool is_safe_path(std::string_view path);

}  // namespace restkv::hub
