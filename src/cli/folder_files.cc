#include "cli/folder_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "restkv/error.h"

namespace restkv::cli {
namespace {

namespace fs = std::filesystem;

bool matches(const std::string& pattern, const fs::path& below) {
  const std::string text =
      pattern.find('/') == std::string::npos ? below.filename().string() : below.string();
  return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

std::vector<std::string> files_in(const std::string& folder,
                                  const std::vector<std::string>& patterns) {
  std::vector<std::string> files;
  std::error_code error;
  using Walk = fs::recursive_directory_iterator;
  for (Walk entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;  // of a link that leads nowhere
    if (entry->path().filename().string().starts_with('.')) {
      if (entry->is_directory(ignored)) entry.disable_recursion_pending();
      continue;
    }
    if (!entry->is_regular_file(ignored)) continue;
    const fs::path below = entry->path().lexically_relative(folder);
    if (std::ranges::any_of(patterns, [&](const auto& each) { return matches(each, below); })) {
      files.push_back(entry->path().string());
    }
  }
  if (error) throw Error(ErrorCode::kInput, fmt::format("{}: {}", folder, error.message()));
  if (files.empty()) {
    throw Error(ErrorCode::kInput, fmt::format("{}: holds no file that matches --glob {}", folder,
                                               fmt::join(patterns, ", --glob ")));
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

void FolderFlags::declare(ArgumentParser& parser) {
  parser.add_repeated("--glob", patterns_,
                      "of folders, the files with such names ('*.md'); repeatable", "PATTERN");
}

std::vector<InputFile> FolderFlags::files(const std::vector<std::string>& paths) const {
  std::vector<InputFile> list;
  bool has_folder = false;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      list.push_back({.path = path});
      continue;
    }
    has_folder = true;
    if (patterns_.empty()) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: is a folder; say which of its files are meant: --glob '*.md'", path));
    }
    for (std::string& file : files_in(path, patterns_)) {
      list.push_back({.path = std::move(file), .from_folder = true});
    }
  }
  if (!patterns_.empty() && !has_folder) {
    throw Error(ErrorCode::kInvalidArgument,
                "--glob has no effect without a folder among the files; leave it out");
  }
  return list;
}

}  // namespace restkv::cli
