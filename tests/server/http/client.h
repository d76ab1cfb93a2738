#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/descriptor.h"
#include "server/http/http_server.h"

/// A client that sends bytes as they are, right or wrong.
namespace restkv::server::testing {

struct Answer {
  int status = 0;  ///< 0: the connection ended before there was one.
  Headers headers;
  std::string body;  ///< Without the frames of chunks.
  bool complete = false;
};

class Client {
 public:
  enum class Connect { kNow, kLater };
  /// Connects to 127.0.0.1. `receive_buffer`: bytes for the system's buffer; 0: the usual.
  explicit Client(uint16_t port, int receive_buffer = 0, Connect when = Connect::kNow);
  void connect(uint16_t port);

  /// False if the server has closed the connection.
  bool send(std::string_view bytes);
  /// The next answer. Waits up to 20 seconds.
  Answer receive(bool to_head = false);
  /// Bytes up to and with `end`; all there are if the connection ends before.
  std::string receive_until(std::string_view end);
  /// What comes until the server closes the connection.
  std::string receive_all();
  /// Whether the server closes the connection within some seconds.
  bool closed(double seconds);

  void half_close();
  void reset();  ///< Closes with RST.
  void close() { fd_.close(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  bool read_more();

  Descriptor fd_;
  std::string input_;
};

/// Sends `bytes` over a connection of its own.
Answer ask(uint16_t port, std::string_view bytes);
/// "GET path HTTP/1.1" with a Host.
Answer get(uint16_t port, std::string_view path);
std::string post(std::string_view path, std::string_view body, std::string_view fields = {});

/// Options for tests: any port.
ServerOptions test_options();
/// "GET /hello" says "hello", "POST /echo" the body, "GET /silent" nothing for
/// as long as the client waits.
Router test_router();

size_t open_descriptors();
/// Waits for `condition` up to some seconds.
template <class Condition>
bool soon(Condition condition, double seconds = 20);

}  // namespace restkv::server::testing

#include <unistd.h>

#include "base/stopwatch.h"

template <class Condition>
bool restkv::server::testing::soon(Condition condition, double seconds) {
  const Stopwatch watch;
  while (!condition()) {
    if (watch.seconds() > seconds) return false;
    ::usleep(1000);
  }
  return true;
}
