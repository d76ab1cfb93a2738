#include "support/safetensors.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "base/json.h"

namespace restkv::testing {

std::map<std::string, Tensor> read_safetensors(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  uint64_t header_size = 0;
  if (bytes.size() < 8) throw std::runtime_error(path.string() + " is too short");
  std::memcpy(&header_size, bytes.data(), 8);
  const auto header = parse_json(bytes.substr(8, header_size));
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (entry.at("dtype") != "F32") throw std::runtime_error(name + " is not float32");
    Tensor& tensor = tensors[name];
    tensor.shape = entry.at("shape").get<std::vector<size_t>>();
    const auto begin = entry.at("data_offsets").at(0).get<size_t>();
    const auto end = entry.at("data_offsets").at(1).get<size_t>();
    tensor.values.resize((end - begin) / sizeof(float));
    std::memcpy(tensor.values.data(), bytes.data() + 8 + header_size + begin, end - begin);
  }
  return tensors;
}

}  // namespace restkv::testing
