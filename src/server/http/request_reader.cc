// Beast says "cannot happen" where a last chunk comes byte by byte (n >= 5), and goes on well.
#define BOOST_DISABLE_ASSERTS

#include "server/http/request_reader.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/system/error_code.hpp>
#include <utility>

#include "server/http/http_error.h"

namespace restkv::server {
namespace {

namespace http = boost::beast::http;

HttpError broken(std::string_view reason) {
  return HttpError(400, fmt::format("the request is not valid HTTP/1.1: {}", reason));
}

HttpError error_of(const boost::system::error_code& error, const ReadLimits& limits) {
  if (error == http::error::body_limit) {
    return HttpError(413, fmt::format("the request's body has more than {} bytes", limits.body));
  }
  if (error == http::error::bad_version) {
    return HttpError(505, "the request is not in HTTP/1.0 or HTTP/1.1");
  }
  return broken(error.message());
}

/// What Beast lets pass and two servers in a row could understand in two ways (request smuggling).
void require_one_length(const Headers& headers, bool http_1_0) {
  const std::string_view length = headers.value("Content-Length");
  if (headers.count("Content-Length") > 1 || length.find(',') != std::string_view::npos) {
    throw broken("Content-Length stands there more than once");
  }
  if (headers.count("Transfer-Encoding") == 0) return;
  if (http_1_0) throw broken("HTTP/1.0 has no Transfer-Encoding");
  if (headers.count("Content-Length") > 0) {
    throw broken("it has both Content-Length and Transfer-Encoding");
  }
  if (headers.count("Transfer-Encoding") > 1 ||
      !same_but_case(headers.value("Transfer-Encoding"), "chunked")) {
    throw HttpError(501, "the only Transfer-Encoding that this server knows is \"chunked\"");
  }
}

std::string copy(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

class RequestReader::Impl {
 public:
  explicit Impl(const ReadLimits& limits) : limits_(limits) {
    parser_.eager(true);
    // Beast counts the bytes of a header anew in every call; here they come in one.
    parser_.header_limit(static_cast<std::uint32_t>(limits.header + 1));
    parser_.body_limit(limits.body);
  }

  size_t feed(std::string_view bytes) {
    if (has_head_) return done_ ? 0 : feed_body(bytes);
    size_t blank = 0;  // empty lines before a request are allowed, RFC 9112, 2.2
    if (scanned_ == 0) {
      while (bytes.substr(blank).starts_with("\r\n")) blank += 2;
      skipped_ += blank;
      if (skipped_ > limits_.header) throw too_long();
      if (blank > 0 || bytes == "\r") return blank;
    }
    const size_t end = end_of_header(bytes);
    if (end == 0) return 0;
    parser_.eager(false);  // the body only after somebody has looked at the header
    put(bytes.substr(0, end));
    parser_.eager(true);
    has_head_ = true;
    take_head();
    done_ = parser_.is_done();
    return end;
  }

  bool has_head_ = false;
  bool done_ = false;
  RequestHead head_;
  http::request_parser<http::string_body> parser_;

 private:
  [[nodiscard]] HttpError too_long() const {
    return HttpError(431, fmt::format("the request's first line and header have more than {} bytes",
                                      limits_.header));
  }

  /// Where the body begins; 0 if that is not there yet. What is no text is refused at once, not
  /// when the time for a header is over.
  size_t end_of_header(std::string_view bytes) {
    for (; scanned_ < bytes.size(); ++scanned_) {
      if (scanned_ >= limits_.header) throw too_long();
      const auto c = static_cast<unsigned char>(bytes[scanned_]);
      const bool after_return = scanned_ > 0 && bytes[scanned_ - 1] == '\r';
      if (c == '\n' && !after_return) throw broken("a line ends without a carriage return");
      if (c != '\n' && after_return) throw broken("a carriage return within a line");
      if ((c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7F) {
        throw broken("its header holds a control character");
      }
      if (c == '\n' && scanned_ >= 3 && bytes.substr(scanned_ - 3, 4) == "\r\n\r\n") {
        return scanned_ + 1;
      }
    }
    return 0;
  }

  size_t put(std::string_view bytes) {
    boost::system::error_code error;
    const size_t used = parser_.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    if (error && error != http::error::need_more) throw error_of(error, limits_);
    return used;
  }

  size_t feed_body(std::string_view bytes) {
    if (bytes.empty()) return 0;
    const size_t used = put(bytes);
    done_ = parser_.is_done();
    // Only the line of a chunk's size, or what stands behind the last chunk, can be left.
    if (!done_ && bytes.size() - used > limits_.header) {
      throw broken("what stands between two chunks is too long");
    }
    return used;
  }

  void take_head() {
    if (!parser_.is_header_done()) throw broken("its header ends early");
    const auto& message = parser_.get();
    head_.method = copy(message.method_string());
    head_.http_1_0 = message.version() == 10;
    for (const auto& field : message.base()) {
      head_.headers.add(copy(field.name_string()), copy(field.value()));
    }
    require_one_length(head_.headers, head_.http_1_0);
    head_.keep_alive = parser_.keep_alive();
    if (const std::string* expect = head_.headers.find("Expect");
        expect != nullptr && !head_.http_1_0) {
      if (!same_but_case(*expect, "100-continue")) {
        throw HttpError(417, "the only Expect that this server knows is \"100-continue\"");
      }
      head_.expects_continue = true;
    }
    head_.target = parse_target(copy(message.target()));
  }

  ReadLimits limits_;
  size_t scanned_ = 0;  // bytes of the header that were looked at
  size_t skipped_ = 0;  // bytes of empty lines before it
};

RequestReader::RequestReader(const ReadLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestReader::~RequestReader() = default;

size_t RequestReader::feed(std::string_view bytes) { return impl_->feed(bytes); }
bool RequestReader::has_head() const { return impl_->has_head_; }
bool RequestReader::done() const { return impl_->done_; }
RequestHead& RequestReader::head() { return impl_->head_; }
std::string& RequestReader::body() { return impl_->parser_.get().body(); }

}  // namespace restkv::server
