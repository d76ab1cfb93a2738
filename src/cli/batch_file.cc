#include "cli/batch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "cli/numbered_lines.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

BatchRequest request_of(std::string_view line) {
  const Json json = parse_json(line);
  if (!json.is_object()) throw Error(ErrorCode::kInput, "is no JSON object");
  BatchRequest request;
  request.id = text_field(json, "custom_id");
  request.url = text_field(json, "url");
  if (const std::string method = json.value("method", "POST"); method != "POST") {
    throw Error(ErrorCode::kInput, fmt::format("field 'method' is '{}'; expected POST", method));
  }
  request.body = object_field(json, "body");
  if (!request.body.is_object()) {
    throw Error(ErrorCode::kInput, "field 'body' must be an object");
  }
  const Json* stream = request.body.find("stream");
  if (stream != nullptr && *stream == Json(true)) {
    throw Error(ErrorCode::kInput, "field 'body' asks for a stream; a file holds whole answers");
  }
  return request;
}

/// The first message, if it is a text of the user's and the chat may be put behind a document.
const std::string* first_message(const BatchRequest& request) {
  if (request.url != "/v1/chat/completions") return nullptr;
  for (const char* field : {"restkv", "document", "tools", "functions"}) {
    if (request.body.contains(field)) return nullptr;
  }
  const Json* messages = request.body.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) return nullptr;
  const Json& first = messages->front();
  const Json* role = first.find("role");
  const Json* content = first.find("content");
  if (role == nullptr || *role != Json("user") || content == nullptr || !content->is_string()) {
    return nullptr;
  }
  return &content->text();
}

/// The part of the common beginning that ends with a line.
size_t common_lines(std::string_view a, std::string_view b) {
  const size_t common = static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  if (common == a.size() && common == b.size()) return common;
  const size_t end = a.substr(0, common).rfind('\n');
  return end == std::string_view::npos ? 0 : end + 1;
}

}  // namespace

std::vector<BatchRequest> read_batch(const std::string& path) {
  const std::string content = to_utf8(read_file(path), path);
  std::vector<BatchRequest> requests;
  std::set<std::string> ids;
  for_each_line(content, path, [&](std::string_view line, size_t) {
    BatchRequest request = request_of(line);
    if (!ids.insert(request.id).second) {
      throw Error(ErrorCode::kInput, fmt::format("the custom_id '{}' stands twice", request.id));
    }
    requests.push_back(std::move(request));
  });
  if (requests.empty()) throw Error(ErrorCode::kInput, path + ": holds no request");
  return requests;
}

std::set<std::string> answered_ids(std::string_view lines, const std::string& path) {
  std::set<std::string> ids;
  for_each_line(lines, path, [&](std::string_view line, size_t) {
    try {
      const Json answer = parse_json(line);
      (void)answer.at("response");
      ids.insert(answer.at("custom_id").text());
    } catch (const Error&) {
      throw Error(ErrorCode::kInput,
                  "is no answer of a batch; remove the line, or write to another file");
    }
  });
  return ids;
}

std::string batch_answer(const BatchRequest& request, size_t number, int status,
                         const std::string& body) {
  Json content = nullptr;
  try {
    content = parse_json(body);
  } catch (const Error&) {
    content = body;
  }
  const std::string id = fmt::format("{}", number);
  return Json::object({{"id", "batch_req_" + id},
                       {"custom_id", request.id},
                       {"response", Json::object({{"status_code", status},
                                                  {"request_id", "req_" + id},
                                                  {"body", std::move(content)}})},
                       {"error", nullptr}})
      .dump();
}

std::vector<SharedBeginning> shared_beginnings(const std::vector<BatchRequest>& requests,
                                               size_t least_bytes, size_t least_requests) {
  std::vector<std::pair<std::string_view, size_t>> sorted;
  std::vector<bool> shares(requests.size(), false);
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::string* message = first_message(requests[i]);
    if (message != nullptr) sorted.emplace_back(*message, i);
  }
  std::ranges::sort(sorted);
  std::vector<SharedBeginning> groups;
  for (size_t begin = 0; begin < sorted.size();) {
    std::string_view common = sorted[begin].first;
    size_t end = begin + 1;
    for (; end < sorted.size(); ++end) {
      const size_t bytes = common_lines(common, sorted[end].first);
      // Instructions that many documents stand behind are not a document.
      if (bytes < least_bytes || (end > begin + 1 && bytes < common.size() - common.size() / 4)) {
        break;
      }
      common = common.substr(0, bytes);
    }
    if (end - begin >= std::max<size_t>(least_requests, 2)) {
      SharedBeginning group{.text = std::string(common)};
      for (size_t i = begin; i < end; ++i) group.requests.push_back(sorted[i].second);
      std::ranges::sort(group.requests);
      for (const size_t i : group.requests) shares[i] = true;
      groups.push_back(std::move(group));
    }
    begin = end;
  }
  std::ranges::sort(groups, {}, [](const SharedBeginning& group) { return group.requests[0]; });
  SharedBeginning others;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!shares[i]) others.requests.push_back(i);
  }
  if (!others.requests.empty()) groups.push_back(std::move(others));
  return groups;
}

Json behind_document(Json body, const std::string& text, const std::string& id) {
  Json& content = body.at("messages").at(0).at("content");
  const std::string_view rest = std::string_view(content.text()).substr(text.size());
  content = std::string(trimmed(rest));
  body["document"] = id;
  return body;
}

}  // namespace restkv::cli
