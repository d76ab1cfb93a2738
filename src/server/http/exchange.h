#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>

#include "server/http/message.h"

namespace restkv::server {

/// One answer between the threads that write it, by a `Responder`, and the connection that sends
/// it: holds what is not sent yet, framed as HTTP. Knows no sockets.
class Exchange {
 public:
  struct Form {
    bool http_1_0 = false;      ///< No chunks: the end of a stream is that of the connection.
    bool without_body = false;  ///< The request was HEAD.
    bool keep_alive = true;
    Fields fields = {};        ///< For every answer's header.
    size_t stream_buffer = 0;  ///< Bytes.
  };
  /// `wake` is called, from any thread, when there is something to do for the connection.
  Exchange(Form form, std::function<void()> wake);

  enum class Next {
    kBytes,  ///< Send what `take` gave.
    kWait,   ///< `wake` will tell.
    kDone,   ///< All was taken.
  };
  /// Replaces `bytes` by what is to be sent next.
  Next take(std::string& bytes);
  /// Whether the answer will never be complete: the connection is to be closed.
  [[nodiscard]] bool cut() const;
  /// The client is gone, or has closed its half. Calls `Responder::on_gone` unless the answer is
  /// complete.
  void leave();
  /// The connection is closed: everything from now on is dropped. `leave` as well.
  void close();
  /// The connection ends with this answer, if its header is not made yet.
  void end_connection();
  [[nodiscard]] bool keep_alive() const;
  [[nodiscard]] int status() const;  ///< 0: no answer yet.

 private:
  friend class Responder;
  enum class State { kWaiting, kStreaming, kComplete };

  // With the lock held:
  [[nodiscard]] std::string head(int status, const Headers& headers, size_t body_bytes,
                                 bool stream);
  void begin(int status);
  /// Whether an answer of this status has one, and the client wants it.
  [[nodiscard]] bool has_body(int status) const;

  const Form form_;
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  State state_ = State::kWaiting;
  int status_ = 0;
  bool keep_alive_;
  bool in_chunks_ = false;
  bool last_chunk_due_ = false;
  bool gone_ = false;
  bool closed_ = false;
  bool cut_ = false;
  std::string ready_;   // framed: a header, a whole answer
  std::string pieces_;  // of a stream, not framed
  std::function<void()> on_gone_;
};

}  // namespace restkv::server
