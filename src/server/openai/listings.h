#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/generate.h"

/// What the server tells about itself.
namespace restkv::server {

struct ModelCard {
  std::string id;
  int64_t created = 0;  ///< Seconds since 1970.
  size_t context = 0;   ///< Tokens.
  size_t vocabulary = 0;
  size_t layers = 0;
  size_t bytes = 0;  ///< Of the file.
};
/// One model: `GET /v1/models/{id}`.
Json model_json(const ModelCard& model);
/// `GET /v1/models`
Json models_json(std::span<const ModelCard> models);

struct ServerProperties {
  ModelCard model;
  std::string version;
  std::string model_path;
  std::string chat_template;
  std::string bos_token;
  std::string eos_token;
  size_t slots = 0;
  GenerationOptions defaults;
};
/// `GET /props`
Json props_json(const ServerProperties& properties);
/// `GET /tokenizer_info`, as evaluation harnesses ask for it.
Json tokenizer_info_json(const ServerProperties& properties);

struct SlotState {
  size_t id = 0;
  std::string state;           ///< "reading", "writing", "kept" or "document".
  bool is_processing = false;  ///< Somebody works on it.
  size_t prompt_tokens = 0;
  size_t read_tokens = 0;  ///< Of the prompt.
  size_t written_tokens = 0;
  std::vector<size_t> kept;  ///< Per layer: tokens per KV head, on average.
  size_t kv_bytes = 0;
};
/// `GET /slots`
Json slots_json(std::span<const SlotState> slots);

}  // namespace restkv::server
