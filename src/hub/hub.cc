#include "hub/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <thread>
#include <utility>

#include "base/json.h"
#include "restkv/error.h"

namespace restkv::hub {
namespace {

constexpr size_t kMostListBytes = size_t{32} << 20U;  // of a page; usual ones have some KiB
constexpr size_t kMostPages = 100;
constexpr int kAttempts = 5;
constexpr std::string_view kApi = "/api/models/";
constexpr size_t kShownBytes = 200;  // of what a server says

constexpr long kUnauthorised = 401;
constexpr long kForbidden = 403;
constexpr long kNotFound = 404;
constexpr long kTooMany = 429;
constexpr long kServerFault = 500;

bool is_good(const HttpAnswer& answer) {
  return answer.error.empty() && (answer.status == 200 || answer.status == 206);
}

/// A status after which the same question may be answered.
bool is_busy(const HttpAnswer& answer) {
  return answer.status == kTooMany || answer.status >= kServerFault;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Appends the files of a page of a repository's list.
void add_files(const Json& page, std::vector<HubFile>& files) {
  if (!page.is_array()) throw Error(ErrorCode::kInput, "it is no list");
  for (const Json& entry : page) {
    const std::string& path = text_field(entry, "path");
    if (entry.value("type", "") != "file" || !path.ends_with(".gguf") || !is_safe_path(path)) {
      continue;
    }
    // Large files, as all models are, are kept by their SHA-256.
    const Json* large = entry.find("lfs");
    if (large == nullptr || large->is_null()) continue;
    HubFile file{
        .path = path, .bytes = count_field(*large, "size"), .sha256 = text_field(*large, "oid")};
    if (file.bytes > 0 && is_sha256(file.sha256)) files.push_back(std::move(file));
  }
}

}  // namespace

Hub::Hub(Options options) : options_(std::move(options)), http_(options_.token) {}

HttpAnswer Hub::patiently(const std::function<HttpAnswer()>& ask) const {
  HttpAnswer answer = ask();
  for (int attempt = 1; attempt < kAttempts && is_busy(answer); ++attempt) {
    std::this_thread::sleep_for(options_.first_wait * (1 << (attempt - 1)));
    answer = ask();
  }
  return answer;
}

void Hub::refuse(const HubName& name, const std::string& what, const HttpAnswer& answer) const {
  const std::string page = options_.endpoint + "/" + name.place();
  std::string message;
  if (answer.status == 0) {
    message = fmt::format(
        "cannot reach {} for {}: {}. Check the connection (HTTPS_PROXY names a "
        "proxy, HF_ENDPOINT another hub), or give the path of a model that is "
        "here",
        options_.endpoint, what, answer.error);
  } else if (!answer.error.empty()) {
    message =
        fmt::format("cannot read {} from {}: {}. Try again", what, options_.endpoint, answer.error);
  } else if (answer.status == kUnauthorised) {
    message = options_.token.empty()
                  ? fmt::format(
                        "{} does not exist, or needs permission: look at {}, and set "
                        "HF_TOKEN to a token that may read it",
                        name.text(), page)
                  : fmt::format(
                        "{} does not exist, or the token in HF_TOKEN may not read it: "
                        "look at {}",
                        name.text(), page);
  } else if (answer.status == kForbidden) {
    message = fmt::format(
        "{} may not be read by everybody: accept its conditions at {}, and set "
        "HF_TOKEN to a token of that account",
        name.text(), page);
  } else if (answer.status == kNotFound) {
    message =
        fmt::format("{} does not exist: {} knows no {}", name.text(), options_.endpoint, what);
  } else {
    message = fmt::format("{} answers {} to {}: {:.{}}. Try again later", options_.endpoint,
                          answer.status, what, answer.body.empty() ? "nothing" : answer.body,
                          kShownBytes);
  }
  throw Error(ErrorCode::kInput, message);
}

std::string Hub::next_page(const HubName& name, const std::string& address) const {
  if (address.empty()) return {};
  const size_t path = address.find(kApi);
  if (path != std::string::npos) return options_.endpoint + address.substr(path);
  throw Error(ErrorCode::kInput,
              fmt::format("the list of files of {} from {} goes on at {:.200}, which is no such "
                          "list. Check HF_ENDPOINT",
                          name.place(), options_.endpoint, address));
}

std::vector<HubFile> Hub::list(const HubName& name) {
  const std::string what = "the list of files of " + name.place();
  std::vector<HubFile> files;
  std::string url =
      fmt::format("{}{}{}/tree/main?recursive=true", options_.endpoint, kApi, name.place());
  for (size_t page = 0; !url.empty(); ++page) {
    const HttpAnswer answer = patiently([&] { return http_.get(url, kMostListBytes); });
    if (!is_good(answer)) refuse(name, what, answer);
    try {
      if (page == kMostPages) throw Error(ErrorCode::kInput, "it has too many pages");
      add_files(parse_json(answer.body), files);
    } catch (const Error& e) {
      throw Error(ErrorCode::kInput, fmt::format("{} from {} cannot be used: {}. Check HF_ENDPOINT",
                                                 what, options_.endpoint, e.what()));
    }
    url = next_page(name, answer.next);
  }
  return files;
}

void Hub::download(const HubName& name, const HubFile& file, size_t first,
                   const HttpClient::Sink& sink) {
  std::string path;
  for (size_t begin = 0; begin <= file.path.size();) {
    const size_t end = std::min(file.path.find('/', begin), file.path.size());
    path += "/" + http_.escaped(std::string_view(file.path).substr(begin, end - begin));
    begin = end + 1;
  }
  const std::string url =
      fmt::format("{}/{}/resolve/main{}", options_.endpoint, name.place(), path);
  size_t next = first;
  bool progress = false;
  const HttpClient::Sink counting{.begin =
                                      [&](size_t number) {
                                        next = number;
                                        sink.begin(number);
                                      },
                                  .write =
                                      [&](std::string_view bytes) {
                                        sink.write(bytes);
                                        next += bytes.size();
                                        progress = true;
                                      }};
  int failures = 0;
  while (next < file.bytes) {
    progress = false;
    const HttpAnswer answer = http_.download(url, next, counting);
    if (is_good(answer)) return;  // the caller sees whether it is all
    const bool broken = !answer.error.empty();
    if (progress) failures = 0;
    // Not reached at all, and nothing was before: there is no network.
    const bool hopeless = !(broken || is_busy(answer)) || (answer.status == 0 && next == first);
    if (hopeless || ++failures == kAttempts) refuse(name, file.path, answer);
    std::this_thread::sleep_for(options_.first_wait * (1 << (failures - 1)));
  }
}

}  // namespace restkv::hub
