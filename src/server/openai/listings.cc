#include "server/openai/listings.h"

#include "server/openai/native_answer.h"

namespace restkv::server {

Json model_json(const ModelCard& model) {
  return Json::object({{"id", model.id},
                       {"object", "model"},
                       {"created", model.created},
                       {"owned_by", "restkv"},
                       {"max_model_len", model.context},
                       {"meta", Json::object({{"n_ctx_train", model.context},
                                              {"n_vocab", model.vocabulary},
                                              {"n_layer", model.layers},
                                              {"size", model.bytes}})}});
}

Json models_json(std::span<const ModelCard> models) {
  Json list = Json::array();
  for (const ModelCard& model : models) list.push_back(model_json(model));
  return Json::object({{"object", "list"}, {"data", std::move(list)}});
}

Json props_json(const ServerProperties& p) {
  return Json::object({{"default_generation_settings",
                        Json::object({{"n_ctx", p.model.context},
                                      {"params", generation_settings_json(p.defaults)}})},
                       {"total_slots", p.slots},
                       {"model_alias", p.model.id},
                       {"model_path", p.model_path},
                       {"modalities", Json::object({{"vision", false}, {"audio", false}})},
                       {"chat_template", p.chat_template},
                       {"bos_token", p.bos_token},
                       {"eos_token", p.eos_token},
                       {"build_info", p.version}});
}

Json tokenizer_info_json(const ServerProperties& p) {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? Json() : Json(text);
  };
  return Json::object({{"bos_token", text_or_null(p.bos_token)},
                       {"eos_token", text_or_null(p.eos_token)},
                       {"pad_token", text_or_null(p.eos_token)},
                       {"chat_template", text_or_null(p.chat_template)},
                       {"model_max_length", p.model.context},
                       {"vocab_size", p.model.vocabulary}});
}

Json slots_json(std::span<const SlotState> slots) {
  Json list = Json::array();
  for (const SlotState& slot : slots) {
    Json kept = Json::array();
    for (const size_t tokens : slot.kept) kept.push_back(tokens);
    list.push_back(Json::object({{"id", slot.id},
                                 {"state", slot.state},
                                 {"is_processing", slot.is_processing},
                                 {"n_prompt_tokens", slot.prompt_tokens},
                                 {"n_prompt_tokens_processed", slot.read_tokens},
                                 {"n_decoded", slot.written_tokens},
                                 {"kept", std::move(kept)},
                                 {"kv_bytes", slot.kv_bytes}}));
  }
  return list;
}

}  // namespace restkv::server
