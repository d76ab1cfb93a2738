#include "compress/query_means.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/json.h"
#include "restkv/error.h"

namespace restkv {
namespace {

template <class... Args>
[[noreturn]] void refuse(const std::string& path, fmt::format_string<Args...> format,
                         Args&&... args) {
  throw Error(ErrorCode::kInput, fmt::format("statistics {}: {}", path,
                                             fmt::format(format, std::forward<Args>(args)...)));
}

/// Where in the file a head is.
struct Place {
  const std::string& path;
  size_t layer, head;
};

std::vector<float> read_numbers(const Json& head, const char* name, const Place& at) {
  const Json* list = head.find(name);
  if (list == nullptr || !list->is_array() || list->empty()) {
    refuse(at.path, "layer {}, head {} has no list \"{}\" of numbers, one per rotated pair",
           at.layer, at.head, name);
  }
  std::vector<float> numbers;
  for (const Json& item : *list) {
    const double number = item.is_number() ? item.get<double>() : std::nan("");
    if (!(std::abs(number) <= 1e30)) {
      refuse(at.path, "layer {}, head {}: \"{}\" holds {}; expected a number", at.layer, at.head,
             name, shown(item));
    }
    numbers.push_back(static_cast<float>(number));
  }
  return numbers;
}

QueryMeans::Head read_head(const Json& json, const Place& at) {
  QueryMeans::Head head{.real = read_numbers(json, "real", at),
                        .imaginary = read_numbers(json, "imaginary", at),
                        .magnitude = read_numbers(json, "magnitude", at)};
  if (head.imaginary.size() != head.real.size() || head.magnitude.size() != head.real.size()) {
    refuse(at.path,
           "layer {}, head {} has {} real, {} imaginary and {} magnitude; expected as many",
           at.layer, at.head, head.real.size(), head.imaginary.size(), head.magnitude.size());
  }
  return head;
}

QueryMeans read(const std::string& path) {
  const Json json = read_json(path);
  const Json* layers = json.find("layers");
  if (layers == nullptr || json.size() != 1 || !layers->is_array() || layers->empty()) {
    refuse(path, R"(expected {{"layers": [[{{"real": [...], "imaginary": [...], "magnitude": )"
                 R"([...]}}, one per query head], one per layer]}})");
  }
  QueryMeans means;
  for (const Json& layer : *layers) {
    auto& heads = means.layers.emplace_back();
    if (!layer.is_array() || layer.empty()) {
      refuse(path, "layer {} is {}; expected a list of query heads", means.layers.size() - 1,
             shown(layer));
    }
    for (const Json& head : layer) {
      heads.push_back(read_head(head, {path, means.layers.size() - 1, heads.size()}));
    }
  }
  return means;
}

}  // namespace

std::shared_ptr<const QueryMeans> read_query_means(const std::string& path) {
  if (path.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "the method needs a model's query statistics: give the path of their file with the "
                "option statistics");
  }
  // Every layer of every cut asks for the file.
  struct LastRead {
    std::string path;
    std::filesystem::file_time_type changed;
    uintmax_t bytes = 0;
    std::shared_ptr<const QueryMeans> means;
  };
  static std::mutex mutex;
  static LastRead last;
  std::error_code gone;
  const auto changed = std::filesystem::last_write_time(path, gone);
  const uintmax_t bytes = gone ? 0 : std::filesystem::file_size(path, gone);
  const std::scoped_lock lock(mutex);
  if (last.means == nullptr || gone || last.path != path || last.changed != changed ||
      last.bytes != bytes) {
    last = {path, changed, bytes, std::make_shared<const QueryMeans>(read(path))};
  }
  return last.means;
}

}  // namespace restkv
