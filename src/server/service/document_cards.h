#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/json.h"
#include "server/scheduler/status.h"

namespace restkv::server {

/// What clients are told of a document beside what the scheduler knows.
struct DocumentCard {
  std::string name;
  int64_t created = 0;  ///< Seconds since 1970.
};

/// By id; may be used from several threads.
class DocumentCards {
 public:
  void add(const DocumentId& id, DocumentCard card);
  void remove(const DocumentId& id);
  [[nodiscard]] DocumentCard find(const DocumentId& id) const;

 private:
  mutable std::mutex mutex_;
  std::map<DocumentId, DocumentCard> cards_;
};

/// {"id", "object": "document", "name", "status", "progress", "tokens", ...}
Json document_json(const DocumentInfo& info, const DocumentCard& card);

}  // namespace restkv::server
