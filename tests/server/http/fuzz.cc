// Mutated bytes through everything that looks at bytes of strangers: http_fuzz --cases N [--seed N]
// [--first N]. A case is a number; the same seed and number give the same bytes on every machine.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/text.h"
#include "server/http/gate.h"
#include "server/http/http_error.h"
#include "server/http/multipart.h"
#include "server/http/request_reader.h"

namespace restkv::server {
namespace {

constexpr ReadLimits kLimits{.header = 1024, .body = 512};

const std::vector<std::string>& seeds() {
  static const std::string form =
      "--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n"
      "--xx\r\nContent-Disposition: form-data; name=\"f\"; filename=\"b.txt\"\r\n"
      "Content-Type: text/plain\r\n\r\nhello\r\n--xx--\r\n";
  static const std::vector<std::string> all{
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "GET /v1/models/a%20b?x=1&y=%C3%A9 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      "POST /v1/chat HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 12\r\n"
      "Authorization: Bearer key\r\n\r\n{\"a\": [1,2]}",
      "POST /v1/chat HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n"
      "Expect: 100-continue\r\n\r\n5;a=\"b\"\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
      "OPTIONS /v1/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.org\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n",
      "GET http://localhost/../a HTTP/1.1\r\nHost: localhost\r\nConnection: close, upgrade\r\n\r\n",
      fmt::format("POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
                  "Content-Type: multipart/form-data; boundary=xx\r\n\r\n{}",
                  form.size(), form),
  };
  return all;
}

const std::vector<std::string>& tokens() {
  static const std::vector<std::string> all{"\r\n",
                                            "\n",
                                            "\r",
                                            std::string(1, '\0'),
                                            " ",
                                            "\t",
                                            ":",
                                            ",",
                                            ";",
                                            "\"",
                                            "%",
                                            "%00",
                                            "%2f",
                                            "..",
                                            "/",
                                            "?",
                                            "#",
                                            "*",
                                            "--",
                                            "-1",
                                            "0",
                                            "18446744073709551615",
                                            "18446744073709551616",
                                            "ffffffffffffffff",
                                            "Content-Length: 5\r\n",
                                            "Transfer-Encoding: chunked\r\n",
                                            "Transfer-Encoding: gzip\r\n",
                                            "Host: a\r\n",
                                            "Content-Encoding: gzip\r\n",
                                            "0\r\n\r\n",
                                            "\r\n\r\n",
                                            "\xFF",
                                            "\xC3\xA9",
                                            "HTTP/1.1",
                                            "HTTP/2.0",
                                            "--xx",
                                            "--xx--",
                                            "filename=\"",
                                            "\r\n folded",
                                            std::string(600, 'x'),
                                            "\\\"",
                                            "[",
                                            "]",
                                            "@"};
  return all;
}

std::string make_case(Random& random) {
  std::string bytes = random.pick(seeds());
  if (random.below(4) == 0) bytes += random.pick(seeds());
  for (size_t i = random.below(6); i > 0; --i) {
    const size_t at = random.below(bytes.size() + 1);
    const size_t length = random.below(std::min<size_t>(bytes.size() - at, 20) + 1);
    switch (random.below(6)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random.below(256));
        break;
      case 1:
        bytes.erase(at, length);
        break;
      case 2:
        bytes.insert(at, random.pick(tokens()));
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 4:
        bytes.replace(at, length, random.pick(tokens()));
        break;
      default:
        if (random.below(4) == 0) bytes.resize(at);
    }
  }
  return bytes;
}

/// All that is seen of a sequence of requests on one connection.
struct Seen {
  std::string text;
  bool ended = false;  // with an error, after which the rest does not count
};

void require(bool promise, const char* what) {
  if (!promise) throw std::runtime_error(what);
}

void use(RequestReader& reader, const Gate& gate, Seen& seen) {
  const RequestHead& head = reader.head();
  require(head.target.path == "*" || head.target.path.starts_with('/'), "a path is none");
  require(replace_invalid_utf8(head.target.path) == head.target.path, "a path is no UTF-8");
  for (const std::string& segment : head.target.segments) {
    require(!segment.empty() && segment != "." && segment != "..", "a segment is none");
  }
  require(reader.body().size() <= kLimits.body, "a body is too long");
  int admitted = 200;
  try {
    if (!gate.admit(head).handler) throw std::runtime_error("nobody answers");
  } catch (const HttpError& error) {
    admitted = error.status();
  }
  size_t parts = 0;
  try {
    for (const FormPart& part :
         parse_multipart(head.headers.value("Content-Type"), reader.body())) {
      require(part.content.size() <= reader.body().size(), "a part is longer than the body");
      ++parts;
    }
  } catch (const HttpError&) {
  }
  seen.text +=
      fmt::format("{} {} {} {} {} {}\n{}\n", head.method, head.target.path, head.keep_alive,
                  admitted, parts, head.target.query.size(), reader.body());
  for (const auto& [name, value] : head.headers) seen.text += name + "=" + value + "\n";
}

/// The bytes cut anew for each call and copied to where AddressSanitizer knows their end.
Seen read(std::string_view bytes, const Gate& gate, Random* cuts) {
  Seen seen;
  std::string waiting;
  auto reader = std::make_unique<RequestReader>(kLimits);
  try {
    while (!bytes.empty()) {
      const size_t count =
          cuts == nullptr ? bytes.size() : std::min(1 + cuts->below(30), bytes.size());
      waiting += bytes.substr(0, count);
      bytes.remove_prefix(count);
      for (;;) {
        const std::vector<char> exact(waiting.begin(), waiting.end());
        const size_t used = reader->feed({exact.data(), exact.size()});
        require(used <= exact.size(), "more bytes are used than there are");
        waiting.erase(0, used);
        if (reader->done()) {
          use(*reader, gate, seen);
          reader = std::make_unique<RequestReader>(kLimits);
        } else if (used == 0) {
          break;
        }
      }
      require(waiting.size() <= kLimits.header + 600 + count, "bytes wait without end");
    }
  } catch (const HttpError& error) {
    seen.text += fmt::format("refused {}\n", error.status());
    seen.ended = true;
  }
  return seen;
}

int run(int argc, char** argv) {
  CLI::App app("Random requests for the HTTP server's parsers");
  uint64_t seed = 1;
  size_t first = 0;
  size_t cases = 100'000;
  app.add_option("--seed", seed, "seed of the cases")->capture_default_str();
  app.add_option("--first", first, "number of the first case")->capture_default_str();
  app.add_option("--cases", cases, "how many")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  ServerOptions options;
  options.api_keys = {"key"};
  options.cors_origins = {"https://a.org"};
  Router router;
  const Handler nothing = [](const HttpRequest&, const Responder&) {};
  router.add("GET", "/", nothing, Access::kOpen);
  router.add("GET", "/v1/models/{id...}", nothing, Access::kOpen);
  router.add("POST", "/v1/chat", nothing);
  router.add("POST", "/form", nothing, Access::kOpen);
  const Gate gate(options, router, true);

  size_t refused = 0;
  size_t findings = 0;
  for (size_t number = first; number < first + cases; ++number) {
    Random random(seed, "http", number);
    const std::string bytes = make_case(random);
    try {
      const Seen whole = read(bytes, gate, nullptr);
      const Seen in_pieces = read(bytes, gate, &random);
      refused += whole.ended ? 1 : 0;
      require(whole.text == in_pieces.text, "the outcome depends on how the bytes are cut");
    } catch (const std::exception& e) {
      ++findings;
      fmt::print("{}\n  http_fuzz --seed {} --first {} --cases 1\n  {}\n", e.what(), seed, number,
                 bytes);
      if (findings == 20) break;
    }
  }
  fmt::print("{} cases, {} refused, {} findings\n", cases, refused, findings);
  return findings == 0 ? 0 : 1;
}

}  // namespace
}  // namespace restkv::server

int main(int argc, char** argv) {
  try {
    return restkv::server::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "http_fuzz: {}\n", e.what());
    return 2;
  }
}
