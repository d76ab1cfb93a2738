#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/http/client.h"
#include "server/http/http_server.h"
#include "server/service/routes.h"
#include "server/service/service.h"
#include "server/service/workers.h"

namespace restkv::server::testing {

/// A random model with the real tokenizer behind all routes, as `restkv serve` has it.
class ServedModel {
 public:
  explicit ServedModel(ServiceOptions options = {}, ServerOptions http = test_options());
  ~ServedModel();

  [[nodiscard]] uint16_t port() const { return door_->port(); }
  [[nodiscard]] Service& service() { return *slot_.get(); }

  /// Sends JSON; returns the answer.
  [[nodiscard]] Answer post(std::string_view path, const Json& body) const;
  /// The same, which must have this status; as JSON.
  [[nodiscard]] Json post_json(std::string_view path, const Json& body, int status = 200) const;
  [[nodiscard]] Json get_json(std::string_view path, int status = 200) const;
  /// The data of all events of a stream, without [DONE], which must end it.
  [[nodiscard]] std::vector<Json> stream(std::string_view path, const Json& body) const;
  /// What the server tells its operator.
  [[nodiscard]] const std::vector<std::string>& errors() const { return *errors_; }

 private:
  std::shared_ptr<std::vector<std::string>> errors_;
  ServiceSlot slot_;
  Workers workers_{2}, uploads_{1};
  std::unique_ptr<HttpServer> door_;
};

/// Path of the model, which is written once for all tests of a program.
const std::string& random_model_path();

}  // namespace restkv::server::testing
