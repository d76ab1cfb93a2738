#include "support/raw_gguf.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <utility>

#include "model/gguf_index.h"

namespace restkv::testing {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::string_view take(size_t size) {
    if (size > bytes_.size() - position_) throw std::runtime_error("a GGUF file ends early");
    position_ += size;
    return bytes_.substr(position_ - size, size);
  }
  uint64_t number(size_t size) {
    uint64_t value = 0;
    const std::string_view bytes = take(size);
    for (size_t i = 0; i < size; ++i) {
      value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    }
    return value;
  }
  std::string_view string() { return take(number(8)); }
  /// The bytes of `count` elements of one type.
  std::string_view elements(uint32_t type, uint64_t count) {
    const size_t begin = position_;
    for (uint64_t i = 0; i < count; ++i) {
      if (type == GGUF_TYPE_STRING) {
        string();
      } else {
        take(gguf_number_size(type));
      }
    }
    return bytes_.substr(begin, position_ - begin);
  }
  [[nodiscard]] size_t position() const { return position_; }

 private:
  std::string_view bytes_;
  size_t position_ = 0;
};

size_t padding(size_t size, uint64_t alignment) {
  return alignment == 0 ? 0 : (alignment - size % alignment) % alignment;
}

}  // namespace

std::string little_endian(uint64_t value, size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size && i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string gguf_string(std::string_view text) {
  return little_endian(text.size(), 8).append(text);
}

RawGguf RawGguf::parse(std::string_view file) {
  RawGguf gguf;
  Reader reader(file);
  reader.take(4);
  gguf.version = static_cast<uint32_t>(reader.number(4));
  gguf.tensors.resize(reader.number(8));
  gguf.values.resize(reader.number(8));
  for (Value& value : gguf.values) {
    value.key = reader.string();
    value.type = static_cast<uint32_t>(reader.number(4));
    if (value.type == GGUF_TYPE_ARRAY) {
      value.element_type = static_cast<uint32_t>(reader.number(4));
      value.count = reader.number(8);
      value.bytes = reader.elements(value.element_type, value.count);
    } else {
      value.bytes = reader.elements(value.type, 1);
    }
  }
  for (Tensor& tensor : gguf.tensors) {
    tensor.name = reader.string();
    tensor.shape.resize(reader.number(4));
    for (uint64_t& extent : tensor.shape) extent = reader.number(8);
    tensor.type = static_cast<uint32_t>(reader.number(4));
    tensor.offset = reader.number(8);
  }
  reader.take(padding(reader.position(), gguf.alignment));
  gguf.data = file.substr(reader.position());
  return gguf;
}

std::string RawGguf::bytes() const {
  std::string file = "GGUF" + little_endian(version, 4);
  file += little_endian(tensors.size() + static_cast<uint64_t>(extra_tensors), 8);
  file += little_endian(values.size() + static_cast<uint64_t>(extra_values), 8);
  for (const Value& value : values) {
    file += gguf_string(value.key) + little_endian(value.type, 4);
    if (value.type == GGUF_TYPE_ARRAY) {
      file += little_endian(value.element_type, 4) + little_endian(value.count, 8);
    }
    file += value.bytes;
  }
  for (const Tensor& tensor : tensors) {
    file += gguf_string(tensor.name) + little_endian(tensor.shape.size(), 4);
    for (const uint64_t extent : tensor.shape) file += little_endian(extent, 8);
    file += little_endian(tensor.type, 4) + little_endian(tensor.offset, 8);
  }
  return file.append(padding(file.size(), alignment), '\0') + data;
}

RawGguf::Value* RawGguf::find(std::string_view key) {
  const auto found =
      std::find_if(values.begin(), values.end(), [&](const Value& v) { return v.key == key; });
  return found == values.end() ? nullptr : &*found;
}

namespace {

RawGguf::Value& value_of(RawGguf& gguf, const std::string& key) {
  if (RawGguf::Value* value = gguf.find(key)) return *value;
  gguf.values.emplace_back().key = key;
  return gguf.values.back();
}

}  // namespace

void RawGguf::set_number(const std::string& key, uint32_t type, uint64_t bits) {
  Value& value = value_of(*this, key);
  value.type = type;
  value.bytes = little_endian(bits, gguf_number_size(type));
}

void RawGguf::set_string(const std::string& key, std::string_view text) {
  Value& value = value_of(*this, key);
  value.type = GGUF_TYPE_STRING;
  value.bytes = gguf_string(text);
}

void RawGguf::set_array(const std::string& key, uint32_t element_type, uint64_t count,
                        std::string bytes) {
  Value& value = value_of(*this, key);
  value.type = GGUF_TYPE_ARRAY;
  value.element_type = element_type;
  value.count = count;
  value.bytes = std::move(bytes);
}

void RawGguf::set_strings(const std::string& key, const std::vector<std::string>& list) {
  std::string bytes;
  for (const std::string& text : list) bytes += gguf_string(text);
  set_array(key, GGUF_TYPE_STRING, list.size(), std::move(bytes));
}

void RawGguf::set_float(const std::string& key, float value) {
  set_number(key, GGUF_TYPE_FLOAT32, std::bit_cast<uint32_t>(value));
}

void RawGguf::remove(std::string_view key) {
  std::erase_if(values, [&](const Value& value) { return value.key == key; });
}

void RawGguf::rename_architecture(const std::string& from, const std::string& to) {
  for (Value& value : values) {
    if (value.key.starts_with(from + ".")) value.key.replace(0, from.size(), to);
  }
  set_string("general.architecture", to);
}

void RawGguf::add_floats(const std::string& name, const std::vector<float>& added) {
  data.append(padding(data.size(), alignment), '\0');
  tensors.push_back({name, {added.size()}, GGML_TYPE_F32, data.size()});
  for (const float value : added) data += little_endian(std::bit_cast<uint32_t>(value), 4);
  data.append(padding(data.size(), alignment), '\0');
}

}  // namespace restkv::testing
