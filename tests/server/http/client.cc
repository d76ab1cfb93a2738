#include "server/http/client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>

namespace restkv::server::testing {

Client::Client(uint16_t port, int receive_buffer, Connect when)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (receive_buffer > 0) {
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  if (when == Connect::kNow) connect(port);
}

void Client::connect(uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!fd_ || ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    throw std::runtime_error("cannot connect");
  }
}

bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

bool Client::read_more() {
  pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&wait, 1, 20'000) <= 0) throw std::runtime_error("the server says nothing");
  std::array<char, 65536> buffer{};
  const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (count <= 0) return false;
  input_.append(buffer.data(), static_cast<size_t>(count));
  return true;
}

std::string Client::receive_until(std::string_view end) {
  size_t at = 0;
  while ((at = input_.find(end)) == std::string::npos) {
    if (!read_more()) return std::exchange(input_, {});
  }
  std::string result = input_.substr(0, at + end.size());
  input_.erase(0, at + end.size());
  return result;
}

std::string Client::receive_all() {
  while (read_more()) {
  }
  return std::exchange(input_, {});
}

Answer Client::receive(bool to_head) {
  Answer answer;
  const std::string head = receive_until("\r\n\r\n");
  if (!head.starts_with("HTTP/1.1 ") || !head.ends_with("\r\n\r\n")) return answer;
  answer.status = std::atoi(head.c_str() + 9);
  for (size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
    const size_t end = head.find("\r\n", at);
    const size_t colon = head.find(": ", at);
    answer.headers.add(head.substr(at, colon - at), head.substr(colon + 2, end - colon - 2));
    at = end + 2;
  }
  if (to_head || answer.status < 200 || answer.status == 204) {
    answer.complete = true;
  } else if (answer.headers.value("Transfer-Encoding") == "chunked") {
    for (;;) {
      const std::string line = receive_until("\r\n");
      if (line.empty()) break;
      const size_t size = std::strtoull(line.c_str(), nullptr, 16);
      while (input_.size() < size + 2 && read_more()) {
      }
      if (input_.size() < size + 2) break;
      answer.body += input_.substr(0, size);
      input_.erase(0, size + 2);
      if (size == 0) {
        answer.complete = true;
        break;
      }
    }
  } else if (const std::string* length = answer.headers.find("Content-Length")) {
    const size_t size = std::strtoull(length->c_str(), nullptr, 10);
    while (input_.size() < size && read_more()) {
    }
    answer.complete = input_.size() >= size;
    answer.body = input_.substr(0, size);
    input_.erase(0, size);
  } else {
    answer.body = receive_all();
    answer.complete = true;
  }
  return answer;
}

bool Client::closed(double seconds) {
  const Stopwatch watch;
  while (watch.seconds() < seconds) {
    pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 10) <= 0) continue;
    char byte = 0;
    if (::recv(fd_.get(), &byte, 1, 0) <= 0) return true;
  }
  return false;
}

void Client::half_close() { ::shutdown(fd_.get(), SHUT_WR); }

void Client::reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd_.close();
}

Answer ask(uint16_t port, std::string_view bytes) {
  Client client(port);
  client.send(bytes);
  return client.receive();
}

Answer get(uint16_t port, std::string_view path) {
  return ask(port, fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path));
}

std::string post(std::string_view path, std::string_view body, std::string_view fields) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n{}", path,
                     body.size(), fields, body);
}

ServerOptions test_options() {
  ServerOptions options;
  options.port = 0;
  return options;
}

namespace {

/// Keeps the handle until the client is gone.
void responder_of_nobody(Responder responder) {
  auto kept = std::make_shared<std::optional<Responder>>(responder);
  responder.on_gone([kept] { kept->reset(); });
}

}  // namespace

Router test_router() {
  Router router;
  router.add("GET", "/hello", [](const HttpRequest&, Responder responder) {
    responder.send(200, {{"Content-Type", "text/plain"}}, "hello");
  });
  router.add("POST", "/echo", [](HttpRequest request, Responder responder) {
    responder.send(200, {}, std::move(request.body));
  });
  router.add("GET", "/silent", [](const HttpRequest&, const Responder& responder) {
    responder_of_nobody(responder);
  });
  return router;
}

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

}  // namespace restkv::server::testing
