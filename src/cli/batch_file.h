#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"

namespace restkv::cli {

/// A line of a file of requests, in OpenAI's batch format.
struct BatchRequest {
  std::string id;   ///< "custom_id"
  std::string url;  ///< "/v1/chat/completions"
  Json body;
};

/// Reads {"custom_id", "method": "POST", "url", "body"} from each line. Throws `Error` (kInput)
/// naming the line: it is none, an id stands twice, or an answer would be a stream.
std::vector<BatchRequest> read_batch(const std::string& path);

/// The ids that answers are there of. `lines`: whole lines of the file `path`. Throws `Error`
/// (kInput) naming a line that is no answer.
std::set<std::string> answered_ids(std::string_view lines, const std::string& path);

/// {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error": null}
std::string batch_answer(const BatchRequest& request, size_t number, int status,
                         const std::string& body);

/// Requests whose first messages begin with the same text.
struct SharedBeginning {
  std::string text;                   ///< Whole lines of the message; empty: they share nothing.
  std::vector<size_t> requests = {};  ///< Numbers of the requests, in their order.
};

/// Finds the texts of at least `least_bytes` that the first messages of `least_requests` chats or
/// more begin with. A text ends where a line does. Left alone are chats whose first message is not
/// the user's, that call tools, or that say themselves how they are compressed. The last element
/// holds all requests that share nothing, if there are any.
std::vector<SharedBeginning> shared_beginnings(const std::vector<BatchRequest>& requests,
                                               size_t least_bytes, size_t least_requests);

/// The chat without the shared text, which stands in the document `id`.
Json behind_document(Json body, const std::string& text, const std::string& id);

}  // namespace restkv::cli
