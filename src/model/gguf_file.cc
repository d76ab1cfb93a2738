#include "model/gguf_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Closes a file descriptor at the end of the scope; the mapping outlives it.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

void GgufFile::fail(const std::string& what) const {
  throw Error(ErrorCode::kInput, fmt::format("{}: {}", path_, what));
}

GgufFile::GgufFile(const std::string& path) : path_(path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat info {};
  if (file.fd < 0 || fstat(file.fd, &info) != 0) {
    fail(fmt::format("cannot open the model: {}; check the path and its permissions",
                     std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) fail("is not a regular file; expected a GGUF model");
  bytes_ = static_cast<size_t>(info.st_size);
  if (bytes_ == 0) fail("is empty; expected a GGUF model");
  map_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (map_ == MAP_FAILED) {
    map_ = nullptr;
    fail(fmt::format("cannot map the model into memory: {}", std::strerror(errno)));
  }
  capture_ggml_log();
  if (bytes_ < 4 || std::memcmp(map_, GGUF_MAGIC, 4) != 0) {
    fail("does not begin with the letters GGUF; expected a GGUF model");
  }
  gguf_.reset(gguf_init_from_buffer(map_, bytes_, {.no_alloc = true, .ctx = nullptr}));
  if (gguf_ == nullptr) {
    fail(fmt::format("is damaged or incomplete ({} bytes): {}. Download or convert it again",
                     bytes_, take_ggml_errors()));
  }
}

GgufFile::~GgufFile() {
  if (map_ != nullptr) munmap(map_, bytes_);
}

int64_t GgufFile::find(const std::string& key) const {
  return gguf_find_key(gguf_.get(), key.c_str());
}

gguf_type GgufFile::scalar_type(int64_t id) const { return gguf_get_kv_type(gguf_.get(), id); }

std::optional<std::string> GgufFile::find_string(const std::string& key) const {
  const int64_t id = find(key);
  if (id < 0) return std::nullopt;
  if (scalar_type(id) != GGUF_TYPE_STRING) fail(fmt::format("'{}' is not a string", key));
  return gguf_get_val_str(gguf_.get(), id);
}

std::optional<double> GgufFile::find_number(const std::string& key) const {
  const int64_t id = find(key);
  if (id < 0) return std::nullopt;
  const gguf_context* g = gguf_.get();
  switch (scalar_type(id)) {
    case GGUF_TYPE_UINT8:
      return gguf_get_val_u8(g, id);
    case GGUF_TYPE_INT8:
      return gguf_get_val_i8(g, id);
    case GGUF_TYPE_UINT16:
      return gguf_get_val_u16(g, id);
    case GGUF_TYPE_INT16:
      return gguf_get_val_i16(g, id);
    case GGUF_TYPE_UINT32:
      return gguf_get_val_u32(g, id);
    case GGUF_TYPE_INT32:
      return gguf_get_val_i32(g, id);
    case GGUF_TYPE_UINT64:
      return static_cast<double>(gguf_get_val_u64(g, id));
    case GGUF_TYPE_INT64:
      return static_cast<double>(gguf_get_val_i64(g, id));
    case GGUF_TYPE_FLOAT32:
      return gguf_get_val_f32(g, id);
    case GGUF_TYPE_FLOAT64:
      return gguf_get_val_f64(g, id);
    default:
      fail(fmt::format("'{}' is not a number", key));
  }
}

std::optional<int64_t> GgufFile::find_integer(const std::string& key) const {
  const std::optional<double> value = find_number(key);
  if (!value) return std::nullopt;
  if (*value != std::floor(*value) || *value < 0 || *value > std::numeric_limits<int32_t>::max()) {
    fail(fmt::format("'{}' is {}; expected a whole number from 0 to 2147483647", key, *value));
  }
  return static_cast<int64_t>(*value);
}

std::optional<size_t> GgufFile::find_array_length(const std::string& key) const {
  const int64_t id = find(key);
  if (id < 0) return std::nullopt;
  if (scalar_type(id) != GGUF_TYPE_ARRAY) fail(fmt::format("'{}' is not an array", key));
  return gguf_get_arr_n(gguf_.get(), id);
}

std::string GgufFile::string(const std::string& key) const {
  auto value = find_string(key);
  if (!value) fail(fmt::format("has no '{}'", key));
  return *value;
}

size_t GgufFile::integer(const std::string& key) const {
  const auto value = find_integer(key);
  if (!value) fail(fmt::format("has no '{}'", key));
  return static_cast<size_t>(*value);
}

double GgufFile::number(const std::string& key) const {
  const auto value = find_number(key);
  if (!value) fail(fmt::format("has no '{}'", key));
  return *value;
}

bool GgufFile::has_tensor(const std::string& name) const {
  return gguf_find_tensor(gguf_.get(), name.c_str()) >= 0;
}

Weight GgufFile::tensor(const std::string& name, size_t rows, size_t cols) const {
  const gguf_context* g = gguf_.get();
  const int64_t id = gguf_find_tensor(g, name.c_str());
  if (id < 0) fail(fmt::format("has no tensor '{}'", name));
  const int64_t* ne = gguf_get_tensor_ne(g, id);
  const ggml_type type = gguf_get_tensor_type(g, id);
  if (ne[0] != static_cast<int64_t>(cols) || ne[1] != static_cast<int64_t>(rows) || ne[2] != 1 ||
      ne[3] != 1) {
    fail(fmt::format("tensor '{}' is {} x {} x {} x {}; its metadata ask for {} x {}", name, ne[0],
                     ne[1], ne[2], ne[3], cols, rows));
  }
  if (!is_supported(type)) {
    fail(fmt::format("tensor '{}' has the type {}, which cannot be computed with", name,
                     ggml_type_name(type)));
  }
  const size_t begin = gguf_get_data_offset(g) + gguf_get_tensor_offset(g, id);
  const size_t size = gguf_get_tensor_size(g, id);
  if (begin > bytes_ || size > bytes_ - begin) {
    fail(
        fmt::format("is incomplete: tensor '{}' ends at byte {} but the file has {}. Download it "
                    "again",
                    name, begin + size, bytes_));
  }
  return {static_cast<const char*>(map_) + begin, type, rows, cols};
}

}  // namespace restkv
