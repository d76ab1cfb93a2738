#include "hub/fake_hub.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "base/json.h"
#include "base/sha256.h"

namespace restkv::testing {
namespace {

constexpr std::string_view kApi = "/api/models/";
constexpr std::string_view kTree = "/tree/main";
constexpr std::string_view kResolve = "/resolve/main/";
constexpr std::string_view kFiles = "/files/";

/// False if nobody reads any more.
bool send_all(int connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void send_answer(int connection, std::string_view status, std::string_view body,
                 std::string_view headers = {}) {
  send_all(connection, fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: "
                                   "close\r\n{}\r\n{}",
                                   status, body.size(), headers, body));
}

std::string header(const std::string& head, std::string_view name) {
  const std::string begin = fmt::format("\r\n{}: ", name);
  const size_t at = head.find(begin);
  if (at == std::string::npos) return {};
  const size_t value = at + begin.size();
  return head.substr(value, head.find("\r\n", value) - value);
}

std::string read_head(int connection) {
  std::string head;
  std::array<char, 4096> block;
  while (head.find("\r\n\r\n") == std::string::npos) {
    const ssize_t got = ::recv(connection, block.data(), block.size(), 0);
    if (got <= 0) return {};
    head.append(block.data(), static_cast<size_t>(got));
  }
  return head;
}

}  // namespace

FakeHub::FakeHub() {
  open(hub_);
  open(files_);
  hub_.thread = std::thread([this] { serve(hub_); });
  files_.thread = std::thread([this] { serve(files_); });
}

FakeHub::~FakeHub() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    behaviour_.holds = false;
  }
  released_.notify_all();
  for (Door* door : {&hub_, &files_}) {
    ::shutdown(door->socket.get(), SHUT_RDWR);
    door->thread.join();
  }
}

std::string FakeHub::endpoint() const { return fmt::format("http://127.0.0.1:{}", hub_.port); }

void FakeHub::add(const std::string& place, const std::string& path, const std::string& content) {
  Sha256 sha;
  sha.update(content);
  const std::lock_guard lock(mutex_);
  places_[place][path] = {content, sha.finish()};
}

void FakeHub::behave(const Behaviour& behaviour) {
  const std::lock_guard lock(mutex_);
  behaviour_ = behaviour;
}

void FakeHub::release() {
  {
    const std::lock_guard lock(mutex_);
    behaviour_.holds = false;
  }
  released_.notify_all();
}

std::vector<FakeHub::Request> FakeHub::take_requests() {
  const std::lock_guard lock(mutex_);
  return std::exchange(requests_, {});
}

size_t FakeHub::downloads() {
  const std::lock_guard lock(mutex_);
  return downloads_;
}

void FakeHub::open(Door& door) {
  door.socket = Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(door.socket.get(), any, size) != 0 || ::listen(door.socket.get(), 16) != 0 ||
      ::getsockname(door.socket.get(), any, &size) != 0) {
    throw std::runtime_error("cannot listen on 127.0.0.1");
  }
  door.port = ntohs(address.sin_port);
}

void FakeHub::serve(const Door& door) {
  while (true) {
    const Descriptor connection(::accept4(door.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) return;
    answer(connection.get());
  }
}

void FakeHub::answer(int connection) {
  const std::string head = read_head(connection);
  if (!head.starts_with("GET ")) return;
  const Request request{.target = head.substr(4, head.find(' ', 4) - 4),
                        .authorization = header(head, "Authorization"),
                        .range = header(head, "Range")};
  Behaviour behaviour;
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    if (behaviour_.busy > 0) {
      --behaviour_.busy;
      return send_answer(connection, "503 Service Unavailable", "busy");
    }
    behaviour = behaviour_;
  }
  const std::string_view target = request.target;
  const auto content_of = [&](const std::string& place, const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto files = places_.find(place);
    if (files == places_.end()) return std::string();
    const auto file = files->second.find(path);
    return file == files->second.end() ? std::string() : file->second.content;
  };
  // The bytes of files need no token: the address is the permission.
  if (target.starts_with(kFiles)) {
    const std::string_view rest = target.substr(kFiles.size());
    const size_t slash = rest.find('/', rest.find('/') + 1);
    return deliver(
        connection, request,
        content_of(std::string(rest.substr(0, slash)), std::string(rest.substr(slash + 1))),
        behaviour);
  }
  if (!behaviour.token.empty() && request.authorization != "Bearer " + behaviour.token) {
    return send_answer(connection, "401 Unauthorized", "{\"error\": \"Invalid credentials\"}");
  }
  if (target.starts_with(kApi)) {
    const size_t tree = target.find(kTree);
    const std::string place(target.substr(kApi.size(), tree - kApi.size()));
    {
      const std::lock_guard lock(mutex_);
      if (!places_.contains(place)) {
        return send_answer(connection, "404 Not Found", "{\"error\": \"Repository not found\"}");
      }
    }
    if (behaviour.gated) {
      return send_answer(connection, "403 Forbidden", "{\"error\": \"gated\"}");
    }
    if (!behaviour.list.empty()) return send_answer(connection, "200 OK", behaviour.list);
    const size_t cursor = target.find("cursor=");
    const size_t first =
        cursor == std::string_view::npos
            ? 0
            : std::strtoul(std::string(target.substr(cursor + 7)).c_str(), nullptr, 10);
    const std::string body = list(place, first, behaviour);
    size_t all = 0;
    {
      const std::lock_guard lock(mutex_);
      all = places_[place].size();
    }
    // A mirror that does not change what it copies.
    const std::string next = fmt::format(
        "Link: <https://original.example{}{}{}?recursive=true&cursor={}>; rel=\"next\"\r\n", kApi,
        place, kTree, first + behaviour.page);
    return send_answer(connection, "200 OK", body, first + behaviour.page < all ? next : "");
  }
  const size_t resolve = target.find(kResolve);
  if (resolve == std::string_view::npos) return send_answer(connection, "404 Not Found", "");
  const std::string place(target.substr(1, resolve - 1));
  const std::string path(target.substr(resolve + kResolve.size()));
  if (content_of(place, path).empty()) {
    return send_answer(connection, "404 Not Found", "Entry not found");
  }
  send_answer(
      connection, "302 Found", "elsewhere",
      fmt::format("Location: http://127.0.0.1:{}{}{}/{}\r\n", files_.port, kFiles, place, path));
}

std::string FakeHub::list(const std::string& place, size_t first, const Behaviour& behaviour) {
  const std::lock_guard lock(mutex_);
  Json list = Json::array();
  size_t number = 0;
  for (const auto& [path, file] : places_[place]) {
    const size_t here = number++;
    if (here < first || here >= first + behaviour.page) continue;
    const size_t size = file.content.size() - (behaviour.lists_wrong_size ? 1 : 0);
    list.push_back({{"type", "file"},
                    {"oid", "0123456789012345678901234567890123456789"},
                    {"size", size},
                    {"lfs", {{"oid", file.sha256}, {"size", size}, {"pointerSize", 134}}},
                    {"path", path}});
  }
  list.push_back({{"type", "directory"}, {"oid", "0"}, {"size", 0}, {"path", "folder"}});
  list.push_back({{"type", "file"}, {"oid", "0"}, {"size", 3}, {"path", "README.md"}});
  return list.dump();
}

void FakeHub::deliver(int connection, const Request& request, const std::string& content,
                      Behaviour& behaviour) {
  bool breaks = false;
  {
    std::unique_lock lock(mutex_);
    ++downloads_;
    released_.wait(lock, [&] { return !behaviour_.holds; });
    if (ended_) return;
    breaks = behaviour_.breaks > 0;
    if (breaks) --behaviour_.breaks;
  }
  constexpr std::string_view kBytes = "bytes=";
  size_t first = 0;
  if (behaviour.ranges && request.range.starts_with(kBytes)) {
    first = std::strtoul(request.range.c_str() + kBytes.size(), nullptr, 10);
  }
  std::string body = content.substr(std::min(first, content.size()));
  if (behaviour.damages && !body.empty()) body.back() = static_cast<char>(body.back() ^ 1);
  std::string head =
      first > 0 ? fmt::format("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {}-{}/{}\r\n",
                              first, content.size() - 1, content.size())
                : std::string("HTTP/1.1 200 OK\r\n");
  head += fmt::format("Content-Length: {}\r\nConnection: close\r\n\r\n", body.size());
  if (breaks) body.resize(std::min(body.size(), behaviour.break_at));
  send_all(connection, head + body);
}

}  // namespace restkv::testing
