#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace restkv::server {

/// One request that was answered, or given up. Holds no secret: no query, no header.
struct AccessEntry {
  std::string peer;    ///< "127.0.0.1:51234"
  std::string method;  ///< Empty if the request could not be read.
  std::string path;    ///< Decoded, without the query; empty if it could not be read.
  std::string id;      ///< As in the answer's header; empty: no request was begun.
  int status = 0;      ///< 499: the client was gone before there was an answer.
  uint64_t bytes = 0;  ///< Of the answer on the wire, as far as the system took them.
  double seconds = 0;  ///< From the first byte of the request to the last one of the answer.
  bool cut = false;    ///< The answer is not complete.
};

/// Called on a network thread; must not block for long, nor throw.
using AccessLog = std::function<void(const AccessEntry& entry)>;

/// '127.0.0.1:51234 "POST /v1/completions" 200 512 0.125s req-1f...'
std::string text_line(const AccessEntry& entry);
/// {"peer":"127.0.0.1:51234","method":"POST",...}
std::string json_line(const AccessEntry& entry);

}  // namespace restkv::server
