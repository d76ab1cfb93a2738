#include "server/service/document_cards.h"

#include <utility>

#include "restkv/compress.h"

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

}  // namespace

void DocumentCards::add(const DocumentId& id, DocumentCard card) {
  const std::scoped_lock lock(mutex_);
  cards_.insert_or_assign(id, std::move(card));
}

void DocumentCards::remove(const DocumentId& id) {
  const std::scoped_lock lock(mutex_);
  cards_.erase(id);
}

DocumentCard DocumentCards::find(const DocumentId& id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = cards_.find(id);
  return found == cards_.end() ? DocumentCard{.name = id} : found->second;
}

Json document_json(const DocumentInfo& info, const DocumentCard& card) {
  const CompressionOptions& compression = info.session.compression;
  return Json::object(
      {{"id", info.id},
       {"object", "document"},
       {"created", card.created},
       {"name", card.name},
       {"status", status_word(info.state)},
       {"progress", info.done},
       {"tokens", info.tokens},
       {"kept", info.kept},
       {"kv_bytes", info.kv_bytes},
       {"full_kv_bytes", info.full_kv_bytes},
       {"restkv", Json::object({{"method", compression.method}, {"budget", compression.budget}})},
       {"error", info.error.empty() ? Json() : Json::object({{"message", info.error}})}});
}

}  // namespace restkv::server
