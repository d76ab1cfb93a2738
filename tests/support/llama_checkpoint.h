#pragma once

#include <filesystem>
#include <string>

namespace restkv::testing {

/// The name in a Llama checkpoint of the GGUF tensor `gguf_name`.
std::string checkpoint_name(const std::string& gguf_name);

/// Writes a Llama checkpoint of Hugging Face (`config.json`, and a .safetensors file of float32) as
/// a GGUF file. Throws std::runtime_error with the file and the key or tensor for settings that do
/// not fit the weights or are not supported here (other families, biases, scaled RoPE).
void write_checkpoint_as_gguf(const std::filesystem::path& config,
                              const std::filesystem::path& weights, const std::string& gguf);

}  // namespace restkv::testing
