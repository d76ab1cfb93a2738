#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "server/http/http_error.h"
#include "server/http/message.h"

namespace restkv::server {

class Exchange;

/// Answers one request: either `send`, or `begin_stream`, `write` ..., `end`. A handle that can be
/// copied, used from any thread (one at a time for `write`, so that pieces have an order), and kept
/// for as long as the answer takes, also beyond the server.
///
/// When the last copy goes without an answer, the client gets a 500 (nothing if it is gone, which
/// is how an answer that nobody wants is given up); when it goes within a stream, the connection is
/// cut, so that the client sees that something is missing. Nothing here blocks. An answer to a
/// client that is gone is dropped. `std::logic_error`: a second answer, or `write` and `end`
/// without `begin_stream`; `Error` (kInvalidArgument): a header field with a line break.
class Responder {
 public:
  explicit Responder(std::shared_ptr<Exchange> exchange);

  /// The whole answer; Content-Length is added.
  void send(int status, const Headers& headers, std::string_view body);
  /// `send` with Content-Type application/json.
  void send_json(int status, std::string_view json);
  /// The error as OpenAI's clients expect it; `Retry-After` if it has one.
  void send_error(const HttpError& error);

  /// An answer in pieces, each sent at once. Adds "Cache-Control: no-cache" and
  /// "X-Accel-Buffering: no" unless `headers` has them.
  void begin_stream(int status, const Headers& headers);
  /// False if the client is gone, or is cut because it does not read: what is not sent yet would be
  /// more than `ServerOptions::stream_buffer` bytes.
  bool write(std::string_view piece);
  void end();
  /// What happens when the last copy goes without an answer, now.
  void give_up();

  /// Whether the client closed the connection (also half of it) or was cut. Never goes back.
  [[nodiscard]] bool gone() const;
  /// Calls `callback` once when the client is gone before the answer is complete; at once if it is
  /// already. It runs on the network thread (or on this one), must neither block nor throw, and may
  /// run while another thread is inside `send` or `end`. The last callback counts.
  void on_gone(std::function<void()> callback);
  /// Bytes of the stream that wait to be sent.
  [[nodiscard]] size_t waiting_bytes() const;

 private:
  static void send_to(Exchange& to, int status, const Headers& headers, std::string_view body);
  static void abandon(Exchange& answer);

  std::shared_ptr<Exchange> exchange_;
};

}  // namespace restkv::server
