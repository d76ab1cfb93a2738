#include "server/service/service.h"

#include <fmt/format.h>
#include <llama.h>

#include <utility>

#include "model/split_name.h"
#include "restkv/error.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

ServiceOptions filled_in(ServiceOptions options) {
  if (options.alias.empty()) {
    options.alias = model_file_name(options.model_path);
  }
  options.limits.session = {options.scheduler.session};
  return options;
}

ModelCard card_of(const ServiceOptions& options, const Model& model, const Tokenizer& tokenizer) {
  return {.id = options.alias,
          .created = unix_seconds(),
          .context = model.config().context_length,
          .vocabulary = tokenizer.vocabulary(),
          .layers = model.config().layers,
          .bytes = model.config().file_bytes};
}

/// "<|im_end|>"; empty if the vocabulary has no such token.
std::string control_text(const Tokenizer& tokenizer, llama_token (*which)(const llama_vocab*)) {
  const llama_token token = which(llama_model_get_vocab(tokenizer.native()));
  return token == LLAMA_TOKEN_NULL ? "" : tokenizer.piece(token, true);
}

}  // namespace

Service::Service(const ServiceOptions& given, std::shared_ptr<ThreadPool> threads)
    : options(filled_in(given)),
      model(options.model_path, options.model),
      tokenizer(options.model_path),
      card(card_of(options, model, tokenizer)),
      scheduler(model, tokenizer, options.scheduler, std::move(threads)) {
  options.limits.vocabulary = card.vocabulary;
  options.limits.context = card.context;
  try {
    chat_.emplace(tokenizer);
  } catch (const Error& error) {
    no_chat_ = error.what();
  }
  properties = {.model = card,
                .version = options.version,
                .model_path = options.model_path,
                .chat_template = chat_ ? chat_->source() : "",
                .bos_token = control_text(tokenizer, llama_vocab_bos),
                .eos_token = control_text(tokenizer, llama_vocab_eos),
                .slots = options.scheduler.max_answers,
                .defaults = {}};
  properties.defaults.max_tokens = options.limits.default_max_tokens;
  properties.defaults.sampling = options.limits.sampling;
}

void Service::require_model(const std::string& name) const {
  if (name.empty() || name == card.id) return;
  throw HttpError(404,
                  fmt::format("the model '{}' is not here; this server has '{}'", name, card.id),
                  {.param = "model", .code = "model_not_found"});
}

const ChatFormat& Service::chat() const {
  if (!chat_) {
    throw HttpError(400, fmt::format("this model cannot chat ({}); use /v1/completions", no_chat_));
  }
  return *chat_;
}

const AskedSession& Service::session_of(const std::optional<AskedSession>& asked) const {
  return asked ? *asked : options.limits.session;
}

}  // namespace restkv::server
