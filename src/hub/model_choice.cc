#include "hub/model_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "base/ascii.h"
#include "model/split_name.h"
#include "restkv/error.h"

namespace restkv::hub {
namespace {

/// In the order of preference.
constexpr std::array<std::string_view, 2> kUsual{"Q4_K_M", "Q8_0"};
constexpr size_t kMostListed = 20;

bool is_model(const HubFile& file) {
  const std::string name = lower_case(std::filesystem::path(file.path).filename().string());
  return name.ends_with(".gguf") && !name.starts_with("mmproj") && !name.starts_with("imatrix");
}

/// A model of the repository: the path of its first file, and all that are there.
using Models = std::map<std::string, std::vector<HubFile>>;

Models models_of(std::span<const HubFile> files) {
  Models models;
  for (const HubFile& file : files) {
    if (!is_model(file)) continue;
    const auto name = parse_split_name(file.path);
    models[name ? split_path(*name, 1) : file.path].push_back(file);
  }
  for (auto& [first, parts] : models) std::ranges::sort(parts, {}, &HubFile::path);
  return models;
}

std::string list_of(const Models& models) {
  std::vector<std::string> paths;
  for (const auto& [first, parts] : models) paths.push_back(first);
  const size_t more = paths.size() - std::min(paths.size(), kMostListed);
  paths.resize(paths.size() - more);
  return fmt::format("{}{}", fmt::join(paths, ", "),
                     more > 0 ? fmt::format(" and {} more", more) : "");
}

Models that_match(const Models& models, const HubName& name) {
  Models matching;
  for (const auto& [first, parts] : models) {
    const std::filesystem::path path(first);
    const bool matches = name.names_file() ? first == name.which || path.filename() == name.which
                                           : has_word(first, name.which);
    if (matches) matching.emplace(first, parts);
  }
  return matching;
}

}  // namespace

bool has_word(std::string_view path, std::string_view word) {
  const std::string text = lower_case(path);
  const std::string wanted = lower_case(word);
  const auto continues = [&](size_t at) {
    return at < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '_');
  };
  for (size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + 1)) {
    if ((at == 0 || !continues(at - 1)) && !continues(at + wanted.size())) return true;
  }
  return false;
}

std::vector<HubFile> choose_model(const HubName& name, std::span<const HubFile> files) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::kInput, fmt::format("{} {}", name.text(), what));
  };
  const Models all = models_of(files);
  if (all.empty()) refuse("has no GGUF models; take a repository with GGUF files");
  Models matching;
  if (name.which.empty()) {
    HubName usual = name;
    for (const std::string_view quantisation : kUsual) {
      if (!matching.empty()) break;
      usual.which = quantisation;
      matching = that_match(all, usual);
    }
    if (matching.empty()) matching = all;
  } else {
    matching = that_match(all, name);
  }
  if (matching.empty()) refuse("is not there; the repository has " + list_of(all));
  if (matching.size() > 1) {
    refuse(fmt::format("may be any of {}; name one behind a colon: hf:{}:{}", list_of(matching),
                       name.place(), matching.begin()->first));
  }
  auto& [first, parts] = *matching.begin();
  const auto split = parse_split_name(first);
  if (split && parts.size() != split->count) {
    refuse(
        fmt::format("is in {} parts, of which the repository has {}: {}; take another "
                    "quantisation",
                    split->count, parts.size(), first));
  }
  return std::move(parts);
}

}  // namespace restkv::hub
