#include "model/gguf_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/text.h"
#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv {
namespace {

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

GgufFile::GgufFile(const std::string& path) : path_(checked(path)), file_(path, "model") {
  if (!bytes().starts_with(GGUF_MAGIC)) {
    fail("does not begin with the letters GGUF; expected a GGUF model");
  }
  index_ = index_gguf(bytes(), [&](const std::string& what) {
    fail(fmt::format("is damaged or incomplete ({} bytes): {}. Download or convert it again",
                     bytes().size(), what));
  });
  const int64_t parts = find_integer("split.count").value_or(1);
  if (parts > 1) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: is one of {} parts of a model ('split.count'); merge them into one "
                    "file with llama-gguf-split --merge",
                    path, parts));
  }
  capture_ggml_log();  // also makes ggml ready to convert half-precision numbers
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
  return {bytes().data() + tensor.offset, tensor.type, rows * count, cols, true};
}

}  // namespace restkv
