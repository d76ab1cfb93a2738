// Documents: read once, then the beginning of many chats.
#include <fmt/format.h>

#include <memory>
#include <string_view>
#include <utility>

#include "document/document.h"
#include "server/http/multipart.h"
#include "server/openai/field_reader.h"
#include "server/openai/text_requests.h"
#include "server/service/document_cards.h"
#include "server/service/document_prompt.h"
#include "server/service/refusals.h"
#include "server/service/requests.h"
#include "server/service/routes.h"

namespace restkv::server {
namespace {

document::Document read_file_of_form(FormPart part) {
  const document::Source source{.name = part.file_name.empty() ? "file" : part.file_name,
                                .content_type = part.content_type};
  try {
    return document::read_document(std::move(part.content), source);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInput && error.code() != ErrorCode::kUnsupported) throw;
    throw HttpError(415, error.what(), {.param = "file"});
  }
}

/// A form with the fields `file`, `name` and `restkv`, as JSON would have it. `kind`: of the file.
Json body_of_form(const HttpRequest& http, document::Kind& kind) {
  Json body = Json::object();
  bool has_file = false;
  for (FormPart& part : parse_multipart(http.headers.value("Content-Type"), http.body)) {
    if (part.name == "file") {
      if (std::exchange(has_file, true)) refuse_field("file", "'file' stands twice; send one");
      if (body.find("name") == nullptr && !part.file_name.empty()) body["name"] = part.file_name;
      document::Document document = read_file_of_form(std::move(part));
      kind = document.kind;
      body["text"] = std::move(document.text);
    } else if (part.name == "name" || part.name == "text") {
      body[part.name] = std::move(part.content);
    } else if (part.name == "restkv") {
      body["restkv"] = parse_body(part.content);
    }
  }
  return body;
}

DocumentInfo require_document(const Service& service, const std::string& id) {
  if (auto info = service.scheduler.document(id)) return *std::move(info);
  throw HttpError(404, fmt::format("there is no document '{}'; GET /v1/documents lists them", id),
                  {.code = "document_not_found"});
}

/// Answers when the document has been read and, if there is a place for it, written.
class UploadListener : public Listener {
 public:
  UploadListener(Service& service, Responder responder)
      : service_(service), responder_(std::move(responder)) {}

  void set_id(DocumentId id) {
    const std::scoped_lock lock(mutex_);
    id_ = std::move(id);
    if (closed_) answer();
  }
  void failed(size_t, const Error& error) override {
    const std::scoped_lock lock(mutex_);
    error_ = refusal_of(std::make_exception_ptr(error), service_.options.error_log);
  }
  void closed() override {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    if (!id_.empty()) answer();
  }

 private:
  void answer() {
    const auto info = service_.scheduler.document(id_);
    if (!info) {
      return responder_.send_error(
          HttpError(404, "the document was removed while it was being read"));
    }
    if (!error_) return responder_.send_json(200, document_json(*info).dump());
    service_.scheduler.remove_document(id_);  // whose id nobody knows
    responder_.send_error(*error_);
  }

  Service& service_;
  Responder responder_;
  std::mutex mutex_;
  DocumentId id_;
  bool closed_ = false;
  std::optional<HttpError> error_;
};

void upload(Service& service, const HttpRequest& http, Responder responder) {
  const bool is_form = http.headers.value("Content-Type").starts_with("multipart/");
  document::Kind kind = document::Kind::kText;
  const Json body = is_form ? body_of_form(http, kind) : parse_body(http.body);
  RequestLimits limits = service.options.limits;
  limits.session = service.options.document_session;
  DocumentRequest request = parse_document_request(body, limits);
  const std::string* wait = http.query_value("wait");
  if (wait != nullptr && *wait != "true" && *wait != "false") {
    throw HttpError(400, fmt::format("'wait' is '{}'; expected true or false", *wait),
                    {.param = "wait"});
  }
  AnswerOptions read_alone;
  read_alone.session = request.session.value_or(limits.session);
  require_context(service, request.text, read_alone, "text");
  std::vector<int32_t> tokens =
      document_tokens(request.text, service.tokenizer, service.chat_or_null());
  require_context(service, tokens.size(), read_alone, "text");

  const DocumentCard card{.name = request.name.empty() ? "document" : request.name,
                          .kind = std::string(document::kind_name(kind)),
                          .created = unix_seconds()};
  const bool waits = wait == nullptr || *wait == "true";
  const auto listener = waits ? std::make_shared<UploadListener>(service, responder) : nullptr;
  const SessionOptions session = session_for(*read_alone.session, tokens.size(), limits);
  const DocumentId id =
      service.scheduler.add_document(std::move(tokens), session, listener, card.label());
  if (!waits) {
    responder.send_json(202, document_json(require_document(service, id)).dump());
    return;
  }
  // Who has not learned the id cannot use the document.
  responder.on_gone([&service, id] { service.scheduler.remove_document(id); });
  listener->set_id(id);
}

void list(Service& service, const HttpRequest&, Responder responder) {
  Json data = Json::array();
  for (const DocumentInfo& info : service.scheduler.documents()) {
    data.push_back(document_json(info));
  }
  responder.send_json(200, Json::object({{"object", "list"}, {"data", std::move(data)}}).dump());
}

void remove(Service& service, const HttpRequest& http, Responder responder) {
  const std::string& id = http.parameter("id");
  (void)require_document(service, id);
  service.scheduler.remove_document(id);
  responder.send_json(200,
                      Json::object({{"id", id}, {"object", "document"}, {"deleted", true}}).dump());
}

}  // namespace

void add_document_routes(RouteAdder& routes, RouteAdder& uploads) {
  uploads.post("/v1/documents", upload);
  routes.get("/v1/documents", list);
  routes.get("/v1/documents/{id}", [](Service& service, const HttpRequest& http,
                                      Responder responder) {
    responder.send_json(200, document_json(require_document(service, http.parameter("id"))).dump());
  });
  routes.add("DELETE", "/v1/documents/{id}", remove);
}

}  // namespace restkv::server
