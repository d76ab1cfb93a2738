#pragma once

#include <filesystem>
#include <string>

namespace restkv::testing {

/// The name in a Llama checkpoint of a tensor that a GGUF file calls `gguf_name`.
std::string checkpoint_name(const std::string& gguf_name);

/// Writes a Llama checkpoint in the form of Hugging Face (`config.json`, and a .safetensors file of
/// float32) as a GGUF file. Throws std::runtime_error with the file and the key or tensor: what
/// does not fit the weights, and what is not written here (other families, biases, scaled RoPE).
void write_checkpoint_as_gguf(const std::filesystem::path& config,
                              const std::filesystem::path& weights, const std::string& gguf);

}  // namespace restkv::testing
