#include "compress/calibration.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/threads.h"
#include "compress/method.h"
#include "compress/row_products.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Fields of the file.
constexpr std::array<std::string_view, 4> kFields{"model", "tokens", "layers", "kvzap"};

/// A part of the file, for messages.
struct Place {
  const std::string& path;
  std::string name;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorCode::kInput, fmt::format("statistics {}: {} {}", path, name,
                                               fmt::format(format, std::forward<Args>(args)...)));
  }
};

/// Appends the numbers of a list to `numbers`.
void read_numbers(const Json* list, std::string_view name, const char* of_what, const Place& at,
                  std::vector<float>& numbers) {
  if (list == nullptr || !list->is_array() || list->empty()) {
    at.refuse("has no list \"{}\" of numbers, {}", name, of_what);
  }
  numbers.reserve(numbers.size() + list->size());
  for (const Json& item : *list) {
    const double number = item.is_number() ? item.get<double>() : std::nan("");
    if (!(std::abs(number) <= 1e30)) {
      at.refuse("has {} in \"{}\"; expected a number", shown(item), name);
    }
    numbers.push_back(static_cast<float>(number));
  }
}

QueryMeans read_head(const Json& json, const Place& at) {
  constexpr const char* kPairs = "one per rotated pair";
  QueryMeans head;
  read_numbers(json.find("real"), "real", kPairs, at, head.real);
  read_numbers(json.find("imaginary"), "imaginary", kPairs, at, head.imaginary);
  read_numbers(json.find("magnitude"), "magnitude", kPairs, at, head.magnitude);
  if (head.imaginary.size() != head.real.size() || head.magnitude.size() != head.real.size()) {
    at.refuse("has {} real, {} imaginary and {} magnitude; expected as many", head.real.size(),
              head.imaginary.size(), head.magnitude.size());
  }
  return head;
}

/// A matrix as a list of rows. Returns their length.
size_t read_rows(const Json* list, std::string_view name, const Place& at,
                 std::vector<float>& numbers) {
  if (list == nullptr || !list->is_array() || list->empty()) {
    at.refuse("has no list \"{}\" of lists of numbers", name);
  }
  const size_t columns = list->front().size();
  for (const Json& row : *list) {
    read_numbers(&row, name, "one per column, in each of its rows", at, numbers);
    if (row.size() != columns) {
      at.refuse("has rows of {} and {} numbers in \"{}\"", columns, row.size(), name);
    }
  }
  return columns;
}

ScoreMap read_map(const Json& json, const Place& at) {
  if (!json.is_object()) at.refuse("is {}; expected an object", shown(json));
  for (const auto& [name, value] : json.items()) {
    constexpr std::array<std::string_view, 5> kKnown{"weights", "bias", "hidden_weights",
                                                     "hidden_bias", "fit"};
    if (std::ranges::find(kKnown, name) == kKnown.end())
      at.refuse("has an unknown field \"{}\"", name);
  }
  ScoreMap map;
  const size_t columns = read_rows(json.find("weights"), "weights", at, map.weights);
  read_numbers(json.find("bias"), "bias", "one per KV head", at, map.bias);
  map.width = columns;
  if (map.weights.size() != map.heads() * columns) {
    at.refuse("has {} weights and {} bias; expected as many", map.weights.size() / columns,
              map.heads());
  }
  if (json.contains("hidden_weights") || json.contains("hidden_bias")) {
    map.width = read_rows(json.find("hidden_weights"), "hidden_weights", at, map.hidden_weights);
    read_numbers(json.find("hidden_bias"), "hidden_bias", "one per hidden unit", at,
                 map.hidden_bias);
    if (map.hidden() != columns || map.hidden_weights.size() != columns * map.width) {
      at.refuse("has {} hidden_weights, {} hidden_bias and weights of {} columns; expected as many",
                map.hidden_weights.size() / map.width, map.hidden(), columns);
    }
  }
  if (const Json* fit = json.find("fit")) {
    read_numbers(fit, "fit", "one per KV head", at, map.fit);
    if (map.fit.size() != map.heads()) {
      at.refuse("has {} numbers in \"fit\" for {} heads", map.fit.size(), map.heads());
    }
  }
  return map;
}

uint64_t read_fingerprint(const Json& model, const Place& at) {
  const Json* text = model.find("fingerprint");
  uint64_t number = 0;
  if (text != nullptr && text->is_string() && text->text().size() == 16) {
    const char* end = text->text().data() + 16;
    if (std::from_chars(text->text().data(), end, number, 16).ptr == end) return number;
  }
  at.refuse("is {}; expected 16 hexadecimal digits in its field \"fingerprint\"", shown(model));
}

Calibration read(const std::string& path) {
  const Json json = read_json(path);
  const Place whole{path, "it"};
  if (!json.is_object()) whole.refuse(R"(is no object with "layers" or "kvzap")");
  for (const auto& [name, value] : json.items()) {
    if (std::ranges::find(kFields, name) == kFields.end()) {
      whole.refuse(
          "has an unknown field \"{}\"; known are {}", name,
          fmt::format("{}, {}, {} and {}", kFields[0], kFields[1], kFields[2], kFields[3]));
    }
  }
  Calibration calibration;
  if (const Json* model = json.find("model")) {
    calibration.model = read_fingerprint(*model, {path, "model"});
    calibration.description = model->value("description", "");
  }
  if (const Json* tokens = json.find("tokens")) {
    if (!tokens->is_number_unsigned()) whole.refuse("has {} tokens", shown(*tokens));
    calibration.tokens = tokens->get<size_t>();
  }
  const auto list = [&](std::string_view name) {
    const Json* found = json.find(name);
    if (found != nullptr && (!found->is_array() || found->empty())) {
      whole.refuse("has {} as \"{}\"; expected a list, one entry per layer", shown(*found), name);
    }
    return found;
  };
  const Json* layers = list("layers");
  const Json* maps = list("kvzap");
  if (layers == nullptr && maps == nullptr) {
    whole.refuse(R"(has neither "layers", the queries of every layer, nor "kvzap")");
  }
  for (size_t l = 0; layers != nullptr && l < layers->size(); ++l) {
    const Json& layer = layers->at(l);
    if (!layer.is_array() || layer.empty()) {
      Place{path, fmt::format("layer {}", l)}.refuse("is {}; expected a list of query heads",
                                                     shown(layer));
    }
    auto& heads = calibration.queries.emplace_back();
    for (const Json& head : layer) {
      heads.push_back(read_head(head, {path, fmt::format("layer {}, head {}", l, heads.size())}));
    }
  }
  for (size_t l = 0; maps != nullptr && l < maps->size(); ++l) {
    calibration.scores.push_back(
        read_map(maps->at(l), {path, fmt::format("layer {} of kvzap", l)}));
  }
  return calibration;
}

/// The shortest decimal that is read as the same float.
Json json_of(float x) {
  const std::string text = fmt::format("{}", x);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Json json_list(std::span<const float> row) {
  std::vector<Json> list;
  list.reserve(row.size());
  for (const float x : row) list.push_back(json_of(x));
  return list;
}

Json json_rows(std::span<const float> numbers, size_t columns) {
  std::vector<Json> list;
  for (size_t at = 0; at < numbers.size(); at += columns) {
    list.push_back(json_list(numbers.subspan(at, columns)));
  }
  return list;
}

float gelu(float x) {
  const double y{x};
  return static_cast<float>(y * 0.5 * (1.0 + std::erf(y * std::sqrt(0.5))));
}

}  // namespace

void ScoreMap::predict(Matrix<const float> rows, size_t first_head, Matrix<float> out) const {
  // A few positions at a time, so that they stay in the cache while all weights pass.
  constexpr size_t kRows = 64;
  const size_t blocks = (rows.rows + kRows - 1) / kRows;
  parallel_for(blocks, [&](size_t block, size_t) {
    const size_t begin = block * kRows;
    Matrix<const float> x = rows.slice(begin, std::min(kRows, rows.rows - begin));
    const size_t count = x.rows;
    std::array<float, kRows> products{};
    std::vector<float> activated;
    if (hidden() > 0) {
      activated.resize(count * hidden());
      for (size_t u = 0; u < hidden(); ++u) {
        dot_products(x, std::span(hidden_weights).subspan(u * width, width),
                     std::span(products).first(count));
        for (size_t i = 0; i < count; ++i) {
          activated[i * hidden() + u] = gelu(products[i] + hidden_bias[u]);
        }
      }
      x = {activated.data(), count, hidden()};
    }
    for (size_t h = 0; h < out.rows; ++h) {
      const size_t head = first_head + h;
      dot_products(x, std::span(weights).subspan(head * x.cols, x.cols),
                   std::span(products).first(count));
      for (size_t i = 0; i < count; ++i) out.row(h)[begin + i] = products[i] + bias[head];
    }
  });
}

std::shared_ptr<const Calibration> read_calibration(const std::string& path) {
  if (path.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "the method needs what restkv calibrate has learned about the model: give the path "
                "of that file with the option statistics");
  }
  // Every layer of every cut asks for the file, and every layer of a decoded token.
  struct LastRead {
    std::string path;
    timespec changed{};
    off_t bytes = 0;
    std::shared_ptr<const Calibration> calibration;
  };
  static std::mutex mutex;
  static LastRead last;
  struct stat now {};
  const bool there = stat(path.c_str(), &now) == 0;
  const std::scoped_lock lock(mutex);
  const bool same =
      last.calibration != nullptr && last.path == path &&
      (!there || (last.changed.tv_sec == now.st_mtim.tv_sec &&
                  last.changed.tv_nsec == now.st_mtim.tv_nsec && last.bytes == now.st_size));
  if (!same) {
    last = {path, now.st_mtim, now.st_size, std::make_shared<const Calibration>(read(path))};
  }
  return last.calibration;
}

void refuse_without(const std::string& path, std::string_view part) {
  throw Error(
      ErrorCode::kInput,
      fmt::format("statistics {}: they have no {}; make them with restkv calibrate", path, part));
}

std::string calibration_text(const Calibration& calibration) {
  std::vector<JsonField> fields;
  if (calibration.model != 0) {
    fields.push_back(
        {"model", Json::object({{"fingerprint", fmt::format("{:016x}", calibration.model)},
                                {"description", calibration.description}})});
  }
  if (calibration.tokens > 0) fields.push_back({"tokens", calibration.tokens});
  if (!calibration.queries.empty()) {
    std::vector<Json> layers;
    for (const auto& heads : calibration.queries) {
      std::vector<Json> list;
      for (const QueryMeans& head : heads) {
        list.push_back(Json::object({{"real", json_list(head.real)},
                                     {"imaginary", json_list(head.imaginary)},
                                     {"magnitude", json_list(head.magnitude)}}));
      }
      layers.emplace_back(std::move(list));
    }
    fields.push_back({"layers", std::move(layers)});
  }
  if (!calibration.scores.empty()) {
    std::vector<Json> layers;
    for (const ScoreMap& map : calibration.scores) {
      const size_t columns = map.weights.size() / map.heads();
      std::vector<JsonField> of_layer{{"weights", json_rows(map.weights, columns)},
                                      {"bias", json_list(map.bias)}};
      if (map.hidden() > 0) {
        of_layer.push_back({"hidden_weights", json_rows(map.hidden_weights, map.width)});
        of_layer.push_back({"hidden_bias", json_list(map.hidden_bias)});
      }
      if (!map.fit.empty()) of_layer.push_back({"fit", json_list(map.fit)});
      layers.emplace_back(std::move(of_layer));
    }
    fields.push_back({"kvzap", std::move(layers)});
  }
  return Json(std::move(fields)).dump() + "\n";
}

void refuse_calibration(const std::string& path, const std::string& reason) {
  throw Error(ErrorCode::kInput,
              fmt::format("statistics {}: {}; make them with this model", path, reason));
}

void require_own_calibration(const Calibration& calibration, const std::string& path, size_t layers,
                             const CacheShape& shape) {
  if (layers != shape.layers) {
    refuse_calibration(path,
                       fmt::format("they have {} layers, but {}", layers, describe_layers(shape)));
  }
  if (calibration.model != 0 && shape.model != 0 && calibration.model != shape.model) {
    refuse_calibration(
        path, fmt::format("they are of another model, or of this one with other weights or "
                          "positions: {}",
                          calibration.description));
  }
}

}  // namespace restkv
