#pragma once

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "server/http/body_share.h"
#include "server/http/exchange.h"
#include "server/http/gate.h"
#include "server/http/http_server.h"
#include "server/http/request_reader.h"

namespace restkv::server {

class Connection;

/// What the connections of a server share. Used on the network thread only, but for `io` and the
/// counter.
struct Network {
  Network(ServerOptions server_options, Router routes, bool loopback)
      : options(std::move(server_options)),
        router(std::move(routes)),
        gate(options, router, loopback) {}

  boost::asio::io_context io{1};
  const ServerOptions options;
  const Router router;
  const Gate gate;
  std::unordered_set<std::shared_ptr<Connection>> connections;
  std::atomic<size_t> open{0};  ///< Size of `connections`.
  /// Bytes of all bodies that are being received or worked on.
  const BodyShare::Total bodies = std::make_shared<std::atomic<size_t>>(0);
  bool stopping = false;
  std::function<void()> on_closed;  ///< After a connection was removed.
  std::array<char, 64 * 1024>
      scratch{};  ///< What one read gives: connections at rest need no room.
};

/// One client: reads its requests one after the other, sends their answers in the same order.
///
/// It only waits until the socket is ready and then reads or writes without blocking. There is
/// always a wait for input, also while an answer is made: so it sees that a client goes away.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  /// `network` must outlive the connection; handles of answers keep it.
  Connection(const std::shared_ptr<Network>& network, Socket socket);

  void start();
  /// Answers with 503, whatever is asked.
  void start_full();
  /// Ends when the running answer is complete; at once if there is none.
  void finish_up();
  void close();

 private:
  enum class Phase {
    kIdle,       ///< Nothing of the next request is there.
    kHeader,     ///< A part of its header is.
    kBody,       ///< A part of its body is.
    kAnswering,  ///< Its answer is made and sent.
    kLingering,  ///< All is sent; what the client still sends is thrown away, so that the system
                 ///< does not throw away the answer.
    kClosed,
  };
  using Clock = std::chrono::steady_clock;

  /// Does all that can be done now, then waits.
  void proceed();
  void do_steps();
  bool step();
  bool read_step();
  bool write_step();

  void begin_request();
  void admit();
  void count_body();
  void dispatch();
  void call_handler(HttpRequest request);
  void refuse(const HttpError& error);
  void begin_answer(bool keep_alive);
  void answer_done();
  void log(bool cut);

  void wait_readable();
  void wait_writable();
  void read_some();
  void update_deadline();
  [[nodiscard]] Clock::time_point deadline() const;
  void on_deadline();

  std::weak_ptr<Network> shared_network_;
  Network& network_;
  Socket socket_;
  boost::asio::steady_timer timer_;  // goes off at `deadline`
  std::string peer_;

  Phase phase_ = Phase::kIdle;
  std::string input_;  // read, not used yet
  bool waits_readable_ = false;
  bool waits_writable_ = false;
  bool end_of_input_ = false;

  std::optional<RequestReader> reader_;
  Gate::Admitted admitted_;
  Clock::time_point began_;  // of the request
  Clock::time_point body_began_;
  Clock::time_point last_moved_;     // bytes of input or output, or another phase
  std::shared_ptr<BodyShare> body_;  // of the request, until a handler has it
  std::string method_, path_, id_;   // for the log

  std::shared_ptr<Exchange> exchange_;
  std::string output_;  // taken from it, partly sent
  size_t sent_ = 0;     // bytes of `output_`
  uint64_t answer_bytes_ = 0;
};

}  // namespace restkv::server
