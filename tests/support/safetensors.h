#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace restkv::testing {

/// A float32 tensor of a .safetensors file.
struct Tensor {
  std::vector<size_t> shape;
  std::vector<float> values;
};

/// Reads a .safetensors file of float32 tensors. Throws std::runtime_error naming the file.
std::map<std::string, Tensor> read_safetensors(const std::filesystem::path& path);

}  // namespace restkv::testing
