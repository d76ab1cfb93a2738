#include "hub/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <exception>
#include <optional>
#include <utility>

#include "base/ascii.h"
#include "base/text.h"
#include "restkv/error.h"

namespace restkv::hub {
namespace {

constexpr long kConnectSeconds = 30;
constexpr long kSilentSeconds = 60;  // without a byte: the connection is dead
constexpr long kMostRedirections = 10;
constexpr size_t kMostErrorBytes = 4096;

constexpr long kOk = 200;
constexpr long kPartial = 206;

/// The host of an address: "127.0.0.1" of "http://127.0.0.1:8080/a".
std::string_view host_of(std::string_view url) {
  const size_t begin = url.find("://");
  if (begin == std::string_view::npos) return {};
  std::string_view host = url.substr(begin + 3);
  host = host.substr(0, host.find('/'));
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

bool is_this_machine(std::string_view url) {
  const std::string_view host = host_of(url);
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

/// `URL` of a header value like `<URL>; rel="next"`.
std::string next_of(std::string_view links) {
  for (size_t at = links.find('<'); at != std::string_view::npos; at = links.find('<', at + 1)) {
    const size_t end = links.find('>', at);
    if (end == std::string_view::npos) break;
    const std::string_view parameters = links.substr(end, links.find('<', end) - end);
    if (parameters.find("rel=\"next\"") != std::string_view::npos) {
      return std::string(links.substr(at + 1, end - at - 1));
    }
  }
  return {};
}

/// 100 of "bytes 100-199/200".
std::optional<size_t> first_of_range(std::string_view value) {
  constexpr std::string_view kUnit = "bytes ";
  if (!value.starts_with(kUnit)) return std::nullopt;
  size_t first = 0;
  const char* end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data() + kUnit.size(), end, first);
  return error == std::errc() && rest != end && *rest == '-' ? std::optional(first) : std::nullopt;
}

/// libcurl is made ready once, before any thread uses it.
void require_curl() {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready == CURLE_OK) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("libcurl does not work: {}", curl_easy_strerror(ready)));
}

/// What one answer becomes while it comes.
struct Transfer {
  CURL* curl = nullptr;
  HttpAnswer answer;
  size_t most_bytes = 0;                   // of `answer.body`
  const HttpClient::Sink* sink = nullptr;  // of a download
  size_t wanted_first = 0;
  std::optional<size_t> range_first;  // by the answer
  bool begun = false;
  std::exception_ptr thrown;

  [[nodiscard]] long status() const {
    long code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
  }

  /// False ends the transfer.
  bool take(std::string_view bytes) {
    const long code = status();
    if (sink == nullptr) {
      if (bytes.size() > most_bytes - answer.body.size()) {
        answer.error = fmt::format("the answer has more than {} bytes", most_bytes);
        return false;
      }
      answer.body += bytes;
      return true;
    }
    if (code != kOk && code != kPartial) {
      answer.body += bytes.substr(0, kMostErrorBytes - answer.body.size());
      return true;
    }
    if (!std::exchange(begun, true)) {
      if (code == kPartial && range_first != wanted_first) {
        answer.error = "the server sends other bytes than those it was asked for";
        return false;
      }
      sink->begin(code == kPartial ? wanted_first : 0);
    }
    sink->write(bytes);
    return true;
  }

  void read_header(std::string_view line) {
    if (line.starts_with("HTTP/")) {  // of the next answer, after a redirection
      answer.next.clear();
      range_first.reset();
      return;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string name = lower_case(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (name == "link") answer.next = next_of(value);
    if (name == "content-range") range_first = first_of_range(value);
  }
};

/// libcurl's callbacks must not throw. Another number than `size` ends the transfer.
template <class Action>
size_t guarded(void* user, size_t size, const Action& action) {
  auto& transfer = *static_cast<Transfer*>(user);
  try {
    return action(transfer) ? size : 0;
  } catch (...) {
    transfer.thrown = std::current_exception();
    return 0;
  }
}

size_t on_bytes(char* data, size_t /*one*/, size_t size, void* user) {
  return guarded(user, size, [&](Transfer& t) { return t.take({data, size}); });
}

size_t on_header(char* data, size_t /*one*/, size_t size, void* user) {
  return guarded(user, size, [&](Transfer& t) {
    t.read_header({data, size});
    return true;
  });
}

}  // namespace

struct HttpClient::Impl {
  struct Free {
    void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };

  std::unique_ptr<CURL, Free> curl;  // keeps connections between calls
  std::unique_ptr<curl_slist, Free> headers;
  std::array<char, CURL_ERROR_SIZE> message{};

  template <class Value>
  void set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(curl.get(), option, value);
    if (code == CURLE_OK) return;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("libcurl does not take option {}: {}", static_cast<int>(option),
                            curl_easy_strerror(code)));
  }

  HttpAnswer run(const std::string& url, Transfer& transfer) {
    curl_easy_reset(curl.get());
    transfer.curl = curl.get();
    const bool is_secure = url.starts_with("https://");
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, is_secure ? "https" : "http,https");
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, kMostRedirections);
    set(CURLOPT_NOSIGNAL, 1L);  // no thread may run a handler
    set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, kSilentSeconds);
    set(CURLOPT_BUFFERSIZE, static_cast<long>(CURL_MAX_READ_SIZE));
    set(CURLOPT_USERAGENT, "restkv/" RESTKV_VERSION);
    if (is_this_machine(url)) set(CURLOPT_PROXY, "");
    // libcurl itself leaves this header out where it is redirected to another host or port.
    if (headers) set(CURLOPT_HTTPHEADER, headers.get());
    set(CURLOPT_ERRORBUFFER, message.data());
    set(CURLOPT_WRITEFUNCTION, &on_bytes);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
    std::string range;
    if (transfer.wanted_first > 0) {
      range = fmt::format("{}-", transfer.wanted_first);
      set(CURLOPT_RANGE, range.c_str());
    }
    message.front() = '\0';
    const CURLcode code = curl_easy_perform(curl.get());
    if (transfer.thrown) std::rethrow_exception(transfer.thrown);
    HttpAnswer& answer = transfer.answer;
    answer.status = transfer.status();
    if (code != CURLE_OK && answer.error.empty()) {
      answer.error = message.front() != '\0' ? message.data() : curl_easy_strerror(code);
    }
    return std::move(answer);
  }
};

HttpClient::HttpClient(const std::string& token) : impl_(std::make_unique<Impl>()) {
  require_curl();
  impl_->curl.reset(curl_easy_init());
  if (!token.empty()) {
    const std::string header = "Authorization: Bearer " + token;
    impl_->headers.reset(curl_slist_append(nullptr, header.c_str()));
  }
  if (!impl_->curl || (!token.empty() && !impl_->headers)) {
    throw Error(ErrorCode::kUnsupported, "libcurl does not work: it gives no handle");
  }
}

HttpClient::~HttpClient() = default;

HttpAnswer HttpClient::get(const std::string& url, size_t most_bytes) {
  Transfer transfer;
  transfer.most_bytes = most_bytes;
  return impl_->run(url, transfer);
}

HttpAnswer HttpClient::download(const std::string& url, size_t first, const Sink& sink) {
  Transfer transfer;
  transfer.sink = &sink;
  transfer.wanted_first = first;
  return impl_->run(url, transfer);
}

std::string HttpClient::escaped(std::string_view part) const {
  char* text = curl_easy_escape(impl_->curl.get(), part.data(), static_cast<int>(part.size()));
  if (text == nullptr) throw Error(ErrorCode::kUnsupported, "libcurl cannot escape an address");
  std::string copy(text);
  curl_free(text);
  return copy;
}

}  // namespace restkv::hub
