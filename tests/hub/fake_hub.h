#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/descriptor.h"

namespace restkv::testing {

/// A hub on this machine with the routes of Hugging Face that `hub::Hub` uses. As there, the bytes
/// of files come from another server, to which it redirects. It can be slow and wrong in many ways.
class FakeHub {
 public:
  FakeHub();
  ~FakeHub();
  FakeHub(const FakeHub&) = delete;
  FakeHub& operator=(const FakeHub&) = delete;

  /// "http://127.0.0.1:PORT"
  [[nodiscard]] std::string endpoint() const;

  /// Adds or replaces a file: `place` is "owner/repository".
  void add(const std::string& place, const std::string& path, const std::string& content);

  struct Behaviour {
    std::string token = {};         ///< Others are answered with 401.
    bool gated = false;             ///< Lists are answered with 403.
    int busy = 0;                   ///< So many answers are 503 first.
    int breaks = 0;                 ///< So many downloads end ...
    size_t break_at = 0;            ///< ... after these bytes.
    bool ranges = true;             ///< Downloads may begin in the middle.
    bool damages = false;           ///< Downloads have a wrong byte.
    bool lists_wrong_size = false;  ///< Files have a byte more than the list says.
    size_t page = 1000;             ///< Entries of a page of a list.
    std::string list = {};          ///< What every list is, if it is not empty.
    bool holds = false;             ///< Downloads wait for `release`.
  };
  void behave(const Behaviour& behaviour);
  void release();

  struct Request {
    std::string target;         ///< "/owner/repository/resolve/main/model.gguf"
    std::string authorization;  ///< Of the header; empty: none.
    std::string range;
  };
  /// Those since the last call.
  std::vector<Request> take_requests();
  /// How many of them began to deliver a file.
  size_t downloads();

 private:
  struct File {
    std::string content, sha256;
  };
  struct Door {
    Descriptor socket;
    uint16_t port = 0;
    std::thread thread;
  };
  void open(Door& door);
  void serve(const Door& door);
  void answer(int connection);
  std::string list(const std::string& place, size_t first, const Behaviour& behaviour);
  void deliver(int connection, const Request& request, const std::string& content,
               Behaviour& behaviour);

  std::mutex mutex_;
  std::condition_variable released_;
  std::map<std::string, std::map<std::string, File>> places_;
  Behaviour behaviour_;
  std::vector<Request> requests_;
  size_t downloads_ = 0;
  bool ended_ = false;
  Door hub_, files_;
};

}  // namespace restkv::testing
