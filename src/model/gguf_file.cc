#include "model/gguf_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "base/text.h"
#include "model/ggml_log.h"
#include "model/split_name.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::string_view kSplitKeys = "split.";
constexpr const char* kNumberKey = "split.no";  // from 0 on
constexpr const char* kCountKey = "split.count";
constexpr const char* kTensorsKey = "split.tensors.count";  // of all parts
constexpr std::string_view kAlignmentKey = "general.alignment";

template <class T>
double load_number(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return static_cast<double>(value);
}

/// None where `type` is no number. A boolean is 0 or 1.
std::optional<double> load_number(gguf_type type, std::string_view bytes) {
  switch (type) {
    case GGUF_TYPE_UINT8:
      return load_number<uint8_t>(bytes);
    case GGUF_TYPE_INT8:
      return load_number<int8_t>(bytes);
    case GGUF_TYPE_BOOL:
      return load_number<int8_t>(bytes) != 0 ? 1 : 0;
    case GGUF_TYPE_UINT16:
      return load_number<uint16_t>(bytes);
    case GGUF_TYPE_INT16:
      return load_number<int16_t>(bytes);
    case GGUF_TYPE_UINT32:
      return load_number<uint32_t>(bytes);
    case GGUF_TYPE_INT32:
      return load_number<int32_t>(bytes);
    case GGUF_TYPE_UINT64:
      return load_number<uint64_t>(bytes);
    case GGUF_TYPE_INT64:
      return load_number<int64_t>(bytes);
    case GGUF_TYPE_FLOAT32:
      return load_number<float>(bytes);
    case GGUF_TYPE_FLOAT64:
      return load_number<double>(bytes);
    default:
      return std::nullopt;
  }
}

/// Refuses a zero byte: libllama and the system would end the path there.
const std::string& checked(const std::string& path) {
  require_no_zero_byte(path, "the path of the model");
  return path;
}

}  // namespace

void GgufFile::fail(const std::string& what) const {
  throw Error(ErrorCode::kInput, fmt::format("{}: {}", path_, what));
}

GgufFile::GgufFile(const std::string& path) : GgufFile(path, Alone{}) {
  if (find_integer(kCountKey).value_or(1) > 1) join_parts();
  capture_ggml_log();  // also makes ggml ready to convert half-precision numbers
}

GgufFile::GgufFile(const std::string& path, Alone /*alone*/) : path_(checked(path)) {
  files_.emplace_back(path, "model");
  const std::string_view bytes = files_.front().bytes();
  if (!bytes.starts_with(GGUF_MAGIC)) {
    fail("does not begin with the letters GGUF; expected a GGUF model");
  }
  index_ = index_gguf(bytes, [&](const std::string& what) {
    fail(fmt::format("is damaged or incomplete ({} bytes): {}. Download or convert it again",
                     bytes.size(), what));
  });
}

std::vector<std::string> GgufFile::part_paths(size_t count) const {
  const auto number = static_cast<size_t>(find_integer(kNumberKey).value_or(0)) + 1;
  const std::optional<SplitName> name = parse_split_name(path_);
  if (!name || name->count != count || name->number != number) {
    fail(
        fmt::format("is part {} of {} of a model ('{}', '{}'), but its name does not end with "
                    "{}, and the other parts are found by their names. Rename all parts so, or "
                    "join them with llama-gguf-split --merge",
                    number, count, kNumberKey, kCountKey,
                    split_path({.stem = {}, .number = number, .count = count}, number)));
  }
  if (number != 1) {
    fail(fmt::format("is part {} of {} of a model; open it by its first part, {}", number, count,
                     split_path(*name, 1)));
  }
  std::vector<std::string> paths;
  std::vector<std::string> missing;
  for (size_t i = 1; i <= count; ++i) {
    paths.push_back(split_path(*name, i));
    std::error_code ignored;
    if (!std::filesystem::exists(paths.back(), ignored)) missing.push_back(paths.back());
  }
  if (!missing.empty()) {
    fail(
        fmt::format("is the first of {} parts of a model; {} missing: {}{}. Put all parts into "
                    "one folder",
                    count, missing.size() == 1 ? "one is" : fmt::format("{} are", missing.size()),
                    missing.front(), missing.size() > 1 ? ", ..." : ""));
  }
  return paths;
}

void GgufFile::require_part_of(const GgufFile& first, size_t number, size_t count) const {
  const auto check = [&](const char* key, size_t expected) {
    const auto found = find_integer(key);
    if (found && static_cast<size_t>(*found) == expected) return;
    fail(
        fmt::format("'{}' is {}; expected {}, as {} and its name say: it is a part of another "
                    "model, or damaged. Download it again",
                    key, found ? std::to_string(*found) : "missing", expected, first.path_));
  };
  check(kNumberKey, number);
  check(kCountKey, count);
  // Usually a part has no other keys than these, and nothing else tells models apart.
  for (const auto& [key, value] : index_.values) {
    if (key.starts_with(kSplitKeys) || key == kAlignmentKey) continue;
    const auto same = first.index_.values.find(key);
    if (same != first.index_.values.end() && same->second.bytes == value.bytes) continue;
    fail(fmt::format("'{}' is {} {}: the two are parts of different models. Download them again",
                     key, same == first.index_.values.end() ? "not in" : "another one in",
                     first.path_));
  }
}

void GgufFile::join_parts() {
  const auto count = static_cast<size_t>(*find_integer(kCountKey));
  const std::vector<std::string> paths = part_paths(count);
  for (size_t i = 1; i < count; ++i) {
    GgufFile part(paths[i], Alone{});
    part.require_part_of(*this, i, count);
    for (const auto& [name, tensor] : part.index_.tensors) {
      const auto [place, is_new] = index_.tensors.emplace(name, tensor);
      if (!is_new) {
        part.fail(
            fmt::format("has the tensor '{}', which is in {}, too: they are parts of "
                        "different models. Download them again",
                        name, paths[place->second.part]));
      }
      place->second.part = i;
    }
    files_.push_back(std::move(part.files_.front()));
  }
  const auto tensors = find_integer(kTensorsKey);
  if (!tensors) fail(fmt::format("has no '{}'. Split the model again", kTensorsKey));
  if (static_cast<size_t>(*tensors) != index_.tensors.size()) {
    fail(
        fmt::format("'{}' is {}, but its {} parts have {} tensors: they are parts of different "
                    "models, or damaged. Download them again",
                    kTensorsKey, *tensors, count, index_.tensors.size()));
  }
}

std::vector<std::string_view> GgufFile::parts() const {
  std::vector<std::string_view> parts;
  for (const MappedFile& file : files_) parts.push_back(file.bytes());
  return parts;
}

size_t GgufFile::size() const {
  size_t bytes = 0;
  for (const MappedFile& file : files_) bytes += file.bytes().size();
  return bytes;
}

const GgufValue* GgufFile::find(const std::string& key) const {
  const auto found = index_.values.find(key);
  return found == index_.values.end() ? nullptr : &found->second;
}

std::optional<std::string> GgufFile::find_string(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GGUF_TYPE_STRING) {
    fail(fmt::format("'{}' is not a string", key));
  }
  std::string_view bytes = value->bytes;
  return std::string(take_gguf_string(bytes));
}

std::optional<double> GgufFile::find_number(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool number = !value->is_array && value->type != GGUF_TYPE_BOOL;
  const auto loaded = number ? load_number(value->type, value->bytes) : std::nullopt;
  if (!loaded) fail(fmt::format("'{}' is not a number", key));
  return loaded;
}

std::optional<std::vector<double>> GgufFile::find_numbers(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  constexpr size_t kMost = 65536;  // far more than any model has layers
  if (value->count > kMost) {
    fail(fmt::format("'{}' has {} entries; at most {} are read", key, value->count, kMost));
  }
  const size_t size = gguf_number_size(value->type);
  std::vector<double> numbers;
  for (size_t i = 0; i < value->count; ++i) {
    const auto number =
        size == 0 ? std::nullopt : load_number(value->type, value->bytes.substr(i * size, size));
    if (!number) fail(fmt::format("'{}' is not a number", key));
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<int64_t> GgufFile::find_integer(const std::string& key) const {
  const std::optional<double> value = find_number(key);
  if (!value) return std::nullopt;
  if (*value != std::floor(*value) || *value < 0 || *value > std::numeric_limits<int32_t>::max()) {
    fail(fmt::format("'{}' is {}; expected a whole number from 0 to 2147483647", key, *value));
  }
  return static_cast<int64_t>(*value);
}

bool GgufFile::is_array(const std::string& key) const {
  const GgufValue* value = find(key);
  return value != nullptr && value->is_array;
}

std::optional<size_t> GgufFile::find_array_length(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array) fail(fmt::format("'{}' is not an array", key));
  return value->count;
}

std::optional<std::vector<std::string_view>> GgufFile::find_strings(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array || value->type != GGUF_TYPE_STRING) {
    fail(fmt::format("'{}' is not an array of strings", key));
  }
  std::vector<std::string_view> strings(value->count);
  std::string_view bytes = value->bytes;
  for (std::string_view& text : strings) text = take_gguf_string(bytes);
  return strings;
}

std::optional<std::vector<int32_t>> GgufFile::find_integers(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array || value->type != GGUF_TYPE_INT32) {
    fail(fmt::format("'{}' is not an array of 32-bit integers", key));
  }
  std::vector<int32_t> integers(value->count);
  if (!integers.empty()) {
    std::memcpy(integers.data(), value->bytes.data(), value->bytes.size());
  }
  return integers;
}

std::string GgufFile::string(const std::string& key) const {
  auto value = find_string(key);
  if (!value) fail(fmt::format("has no '{}'", key));
  return *value;
}

bool GgufFile::has_tensor(const std::string& name) const { return index_.tensors.contains(name); }

Weight GgufFile::tensor(const std::string& name, size_t rows, size_t cols, size_t count) const {
  const auto found = index_.tensors.find(name);
  if (found == index_.tensors.end()) fail(fmt::format("has no tensor '{}'", name));
  const GgufTensor& tensor = found->second;
  if (tensor.shape != std::array<uint64_t, GGML_MAX_DIMS>{cols, rows, count, 1}) {
    fail(fmt::format("tensor '{}' is {}; its metadata ask for {} x {}{}", name,
                     fmt::join(tensor.shape, " x "), cols, rows,
                     count > 1 ? fmt::format(" x {}", count) : ""));
  }
  if (!is_supported(tensor.type)) {
    fail(fmt::format("tensor '{}' has the type {}, which cannot be computed with", name,
                     ggml_type_name(tensor.type)));
  }
  return {files_[tensor.part].bytes().data() + tensor.offset, tensor.type, rows * count, cols,
          true};
}

}  // namespace restkv
