#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "restkv/compress.h"
#include "server/scheduler/status.h"

namespace restkv::server {

/// What clients are told of a document beside what the scheduler knows. The scheduler keeps it as
/// the document's label.
struct DocumentCard {
  std::string name;
  std::string kind;     ///< `document::kind_name` of the file.
  int64_t created = 0;  ///< Seconds since 1970.

  [[nodiscard]] std::string label() const;
};

/// A number of tokens, or "auto:0.05".
Json budget_json(const CompressionOptions& options);
/// {"id", "object": "document", "name", "status", "progress", "tokens", ...}
Json document_json(const DocumentInfo& info);

}  // namespace restkv::server
