#include "hub/environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "restkv/error.h"

namespace restkv::hub {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Without white space: whatever else stood in a header would become a header of its own.
bool is_visible(const std::string& text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

std::filesystem::path models_folder() {
  if (std::string folder = variable("RESTKV_MODELS"); !folder.empty()) return folder;
  // The standard says that relative paths here are to be ignored.
  if (const std::filesystem::path cache = variable("XDG_CACHE_HOME"); cache.is_absolute()) {
    return cache / "restkv" / "models";
  }
  if (const std::string home = variable("HOME"); !home.empty()) {
    return std::filesystem::path(home) / ".cache" / "restkv" / "models";
  }
  throw Error(ErrorCode::kInput,
              "there is no folder for models: set RESTKV_MODELS (HOME is not set either)");
}

std::string hub_endpoint() {
  std::string endpoint = variable("HF_ENDPOINT");
  if (endpoint.empty()) return "https://huggingface.co";
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (!is_visible(endpoint) ||
      !(endpoint.starts_with("https://") || endpoint.starts_with("http://"))) {
    throw Error(ErrorCode::kInput, fmt::format("HF_ENDPOINT is '{:.200}'; expected an address like "
                                               "https://huggingface.co",
                                               endpoint));
  }
  return endpoint;
}

std::string hub_token() {
  std::string token = variable("HF_TOKEN");
  if (is_visible(token)) return token;
  throw Error(ErrorCode::kInput,
              "HF_TOKEN holds white space or other characters that no token has; copy it again");
}

}  // namespace restkv::hub
