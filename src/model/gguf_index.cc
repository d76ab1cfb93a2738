#include "model/gguf_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

namespace restkv {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF numbers are read as they lie");

constexpr size_t kMaxKeyLength = 65535;               // the format's own limit
constexpr size_t kMaxTensorName = GGML_MAX_NAME - 1;  // libllama's
constexpr uint64_t kDefaultAlignment = 32;
constexpr std::string_view kAlignmentKey = "general.alignment";

template <class T>
T load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

uint64_t padded(uint64_t size, uint64_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

class Indexer {
 public:
  Indexer(std::string_view file, const std::function<void(const std::string&)>& fail)
      : file_(file), fail_(fail) {}

  GgufIndex run() {
    GgufIndex index;
    where_ = "the header";
    take(4);  // the letters GGUF, which the caller has seen
    const auto version = number<uint32_t>();
    if ((version & 0xFFFFU) == 0) {
      fail("its version number has the bytes in reverse order: it is a big-endian file");
    }
    if (version != 2 && version != 3) {
      fail(fmt::format("it has version {} of the format; expected 2 or 3", version));
    }
    const auto tensors = number<uint64_t>();
    const auto values = number<uint64_t>();
    for (uint64_t i = 0; i < values; ++i) read_value(index, i, values);
    const uint64_t alignment = read_alignment(index);
    for (uint64_t i = 0; i < tensors; ++i) read_tensor(index, i, tensors, alignment);
    place_tensors(index, alignment);
    return index;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    fail_(what);
    std::abort();  // `fail_` must not return
  }

  [[nodiscard]] size_t remaining() const { return file_.size() - position_; }

  std::string_view take(uint64_t size) {
    if (size > remaining()) {
      fail(fmt::format("{} needs {} bytes at byte {}, beyond the end", where_, size, position_));
    }
    const std::string_view bytes = file_.substr(position_, size);
    position_ += size;
    return bytes;
  }

  template <class T>
  T number() {
    return load<T>(take(sizeof(T)));
  }

  std::string_view string() { return take(number<uint64_t>()); }

  /// A key or a tensor's name. It must be text, because messages quote it.
  std::string_view name(size_t longest) {
    const std::string_view text = string();
    if (text.empty()) fail(fmt::format("{} has an empty name", where_));
    if (text.size() > longest) {
      fail(fmt::format("{} has a name of {} bytes; at most {} are allowed", where_, text.size(),
                       longest));
    }
    const bool printable =
        std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
    if (!printable) fail(fmt::format("{} has a name that is not ASCII text", where_));
    return text;
  }

  void read_value(GgufIndex& index, uint64_t i, uint64_t count) {
    where_ = fmt::format("metadata entry {} of {}", i + 1, count);
    const std::string_view key = name(kMaxKeyLength);
    where_ = fmt::format("'{}'", key);
    GgufValue value;
    auto type = number<uint32_t>();
    if (type == GGUF_TYPE_ARRAY) {
      value.is_array = true;
      type = number<uint32_t>();
      const auto elements = number<uint64_t>();
      // Every element has at least one byte.
      if (elements > remaining()) {
        fail(
            fmt::format("{} claims {} elements; {} bytes are left", where_, elements, remaining()));
      }
      value.count = elements;
    }
    const size_t begin = position_;
    if (type == GGUF_TYPE_STRING) {
      for (size_t e = 0; e < value.count; ++e) string();
    } else if (const size_t size = gguf_number_size(type); size > 0) {
      take(size * value.count);  // cannot overflow: count is at most the size of the file
    } else {
      fail(fmt::format("{} has the type {}, which is not one of GGUF{}", where_, type,
                       value.is_array ? "'s elements" : "'s"));
    }
    value.type = static_cast<gguf_type>(type);
    value.bytes = file_.substr(begin, position_ - begin);
    if (!index.values.emplace(key, value).second) fail(fmt::format("{} is there twice", where_));
  }

  /// Tensors begin at multiples of this; values are then aligned for every type of number.
  uint64_t read_alignment(const GgufIndex& index) const {
    const auto found = index.values.find(kAlignmentKey);
    if (found == index.values.end()) return kDefaultAlignment;
    const GgufValue& value = found->second;
    if (value.is_array || value.type != GGUF_TYPE_UINT32) {
      fail(fmt::format("'{}' is not an unsigned 32-bit number", kAlignmentKey));
    }
    const auto alignment = load<uint32_t>(value.bytes);
    if (alignment < 8 || !std::has_single_bit(alignment)) {
      fail(fmt::format("'{}' is {}; expected a power of two from 8 on", kAlignmentKey, alignment));
    }
    return alignment;
  }

  void read_tensor(GgufIndex& index, uint64_t i, uint64_t count, uint64_t alignment) {
    where_ = fmt::format("tensor {} of {}", i + 1, count);
    const std::string_view key = name(kMaxTensorName);
    where_ = fmt::format("tensor '{}'", key);
    GgufTensor tensor;
    tensor.shape.fill(1);
    const auto dimensions = number<uint32_t>();
    if (dimensions > GGML_MAX_DIMS) {
      fail(fmt::format("{} has {} dimensions; at most {} are allowed", where_, dimensions,
                       GGML_MAX_DIMS));
    }
    // The limit keeps all products of extents and block sizes within 63 bits.
    constexpr uint64_t kMaxElements = uint64_t{1} << 56U;
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dimensions; ++d) {
      const auto extent = number<uint64_t>();
      if (extent == 0 || extent > kMaxElements / elements) {
        fail(fmt::format("{} has the extent {} in dimension {}", where_, extent, d + 1));
      }
      elements *= extent;
      tensor.shape[d] = extent;
    }
    const auto type = number<uint32_t>();
    // Removed types have a block size of 0.
    if (type >= GGML_TYPE_COUNT || ggml_blck_size(static_cast<ggml_type>(type)) == 0) {
      fail(fmt::format("{} has the unknown type {}", where_, type));
    }
    tensor.type = static_cast<ggml_type>(type);
    const auto block = static_cast<uint64_t>(ggml_blck_size(tensor.type));
    if (tensor.shape[0] % block != 0) {
      fail(fmt::format("{} has rows of {} values, which is no multiple of the {} in a block of {}",
                       where_, tensor.shape[0], block, ggml_type_name(tensor.type)));
    }
    const uint64_t size = elements / block * ggml_type_size(tensor.type);
    const auto offset = number<uint64_t>();
    // Data must have no gaps and overlaps, as libllama demands. No tensor can then exceed the file.
    if (offset != data_size_) {
      fail(
          fmt::format("{} begins at byte {} of the data; expected {}", where_, offset, data_size_));
    }
    // Far more than any file has, and small enough for the next sums.
    constexpr uint64_t kMaxData = uint64_t{1} << 60U;
    if (data_size_ + size > kMaxData) fail(fmt::format("{} has {} bytes", where_, size));
    tensor.offset = offset;
    tensor.size = size;
    data_size_ = padded(offset + size, alignment);
    if (!index.tensors.emplace(key, tensor).second) fail(fmt::format("{} is there twice", where_));
  }

  /// Makes offsets relative to the file. The beginning of the data is known after the last tensor.
  void place_tensors(GgufIndex& index, uint64_t alignment) const {
    const uint64_t begin = padded(position_, alignment);
    for (auto& [name, tensor] : index.tensors) {
      tensor.offset += begin;
      const uint64_t end = tensor.offset + tensor.size;
      if (end > file_.size()) fail(fmt::format("tensor '{}' ends at byte {}", name, end));
    }
  }

  std::string_view file_;
  const std::function<void(const std::string&)>& fail_;
  size_t position_ = 0;
  std::string where_;  // the current key or tensor, for messages
  uint64_t data_size_ = 0;
};

}  // namespace

size_t gguf_number_size(uint32_t type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32:
      return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    default:
      return 0;
  }
}

GgufIndex index_gguf(std::string_view file, const std::function<void(const std::string&)>& fail) {
  return Indexer(file, fail).run();
}

std::string_view take_gguf_string(std::string_view& bytes) {
  const auto size = load<uint64_t>(bytes);
  const std::string_view text = bytes.substr(sizeof(size), size);
  bytes.remove_prefix(sizeof(size) + size);
  return text;
}

}  // namespace restkv
