#include "server/service/document_cards.h"

#include "restkv/budget.h"

namespace restkv::server {
namespace {

const char* status_word(DocumentInfo::State state) {
  switch (state) {
    case DocumentInfo::State::kWaiting:
      return "waiting";
    case DocumentInfo::State::kReading:
      return "reading";
    case DocumentInfo::State::kReady:
      return "ready";
    case DocumentInfo::State::kFailed:
      break;
  }
  return "failed";
}

DocumentCard card_of(const DocumentInfo& info) {
  const Json json = parse_json(info.label);
  const Json* kind = json.find("kind");  // files in cache_dir may be older than this field
  return {.name = json["name"].text(),
          .kind = kind != nullptr ? kind->text() : "text",
          .created = json["created"].get<int64_t>()};
}

}  // namespace

std::string DocumentCard::label() const {
  return Json::object({{"name", name}, {"kind", kind}, {"created", created}}).dump();
}

Json budget_json(const CompressionOptions& options) {
  const Budget budget = budget_of(options);
  return budget.tolerance > 0 ? Json(budget.text()) : Json(budget.tokens);
}

Json document_json(const DocumentInfo& info) {
  const DocumentCard card = card_of(info);
  const CompressionOptions& compression = info.session.compression;
  return Json::object(
      {{"id", info.id},
       {"object", "document"},
       {"created", card.created},
       {"name", card.name},
       {"kind", card.kind},
       {"status", status_word(info.state)},
       {"progress", info.done},
       {"tokens", info.tokens},
       {"kept", info.kept},
       {"kv_bytes", info.kv_bytes},
       {"full_kv_bytes", info.full_kv_bytes},
       {"saved", info.saved},
       {"restkv",
        Json::object({{"method", compression.method}, {"budget", budget_json(compression)}})},
       {"error", info.error.empty() ? Json() : Json::object({{"message", info.error}})}});
}

}  // namespace restkv::server
