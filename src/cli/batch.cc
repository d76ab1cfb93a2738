#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/line_file.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/batch_file.h"
#include "cli/byte_count.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/compression_flags.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/signals.h"
#include "restkv/error.h"
#include "server/service/local_client.h"
#include "server/service/routes.h"
#include "server/service/service.h"
#include "server/service/workers.h"

namespace restkv::cli {
namespace {

using namespace std::chrono_literals;

/// As `restkv serve` has it, so that the same requests get the same answers.
constexpr size_t kInterval = 256;
/// A text that fewer requests share, or that is shorter, is not worth a copy of its own.
constexpr size_t kLeastRequests = 3;
constexpr size_t kLeastBytes = 2000;

struct BatchFlags {
  std::string model, input, output, memory;
  size_t parallel = 8, max_tokens = 2048;
  int threads = 0;
  bool no_share = false;
  SessionFlags session{kInterval, "restkv", BudgetForm::kNumber};
  SamplingFlags sampling{SamplingOptions{.temperature = 0.8F}};
  const Option* seed = nullptr;
};

server::ServiceOptions service_options(const BatchFlags& flags) {
  server::ServiceOptions options;
  options.model_path = model_file(flags.model);
  options.model = flags.session.model();
  options.version = "restkv " RESTKV_VERSION;
  options.fixed_seed = flags.seed->given();
  options.error_log = [](const std::string& message) { say("error: " + message); };
  options.scheduler.session = flags.session.session();
  options.scheduler.max_answers = flags.parallel;
  if (!flags.memory.empty()) {
    options.scheduler.memory_limit = parse_byte_count(flags.memory, "--memory");
  }
  options.scheduler.error_log = [](std::string_view message) { say(message); };
  options.document_session = {options.scheduler.session};
  SessionFlags of_documents = flags.session;
  if (of_documents.prefer_method(kMethodForLaterQuestions)) {
    options.document_session.options.compression = default_options(kMethodForLaterQuestions);
    options.document_session.options.compression.budget =
        options.scheduler.session.compression.budget;
  }
  options.limits.sampling = flags.sampling.resolve();
  options.limits.default_max_tokens = flags.max_tokens;
  return options;
}

/// Answers that have come, in their order.
class Inbox {
 public:
  struct Item {
    size_t request = 0;
    server::LocalAnswer answer;
  };
  void put(Item item) {
    {
      const std::scoped_lock lock(mutex_);
      items_.push_back(std::move(item));
    }
    there_.notify_one();
  }
  /// Nothing: none has come for a moment.
  std::optional<Item> take() {
    std::unique_lock lock(mutex_);
    if (!there_.wait_for(lock, 100ms, [&] { return !items_.empty(); })) return std::nullopt;
    Item item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::deque<Item> items_;
};

/// Sends requests to the routes, so many at a time, and writes the answers as they come.
class Batch {
 public:
  Batch(const BatchFlags& flags, const std::vector<BatchRequest>& requests, LineFile& output,
        size_t done)
      : flags_(flags), requests_(requests), output_(output), answers_(done) {}

  /// Throws `Error` (kInterrupted) on Ctrl-C; what was answered is in the file.
  void run(const server::LocalClient& client, const std::vector<SharedBeginning>& groups) {
    for (const SharedBeginning& group : groups) {
      const std::string document = group.text.empty() ? "" : read_document(client, group);
      answer(client, group, document);
      if (!document.empty()) (void)client.ask("DELETE", "/v1/documents/" + document, "");
    }
    progress_.finish();
  }
  [[nodiscard]] size_t failed() const { return failed_; }

 private:
  /// Its id; empty: it could not be read, and the requests are answered one by one.
  std::string read_document(const server::LocalClient& client, const SharedBeginning& group) {
    const Json body =
        Json::object({{"text", std::string(trimmed(group.text))}, {"name", "shared by requests"}});
    const server::LocalAnswer answer = client.ask("POST", "/v1/documents", body.dump());
    if (answer.status == 200) return parse_json(answer.body).at("id").text();
    notice(fmt::format("the text that {} requests share is read with each of them: {}",
                       group.requests.size(), answer.body));
    return {};
  }

  void answer(const server::LocalClient& client, const SharedBeginning& group,
              const std::string& document) {
    const auto inbox = std::make_shared<Inbox>();
    size_t begun = 0;
    size_t under_way = 0;
    while (begun < group.requests.size() || under_way > 0) {
      if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
      if (begun < group.requests.size() && under_way < flags_.parallel) {
        const size_t request = group.requests[begun++];
        ++under_way;
        send(client, request, group.text, document, inbox);
        continue;
      }
      std::optional<Inbox::Item> item = inbox->take();
      if (!item) continue;
      --under_way;
      store(item->request, item->answer);
    }
  }

  void send(const server::LocalClient& client, size_t number, const std::string& text,
            const std::string& document, const std::shared_ptr<Inbox>& inbox) {
    const BatchRequest& request = requests_[number];
    Json body = document.empty() ? request.body : behind_document(request.body, text, document);
    body.erase("model");  // there is one
    client.send("POST", request.url, body.dump(), [inbox, number](server::LocalAnswer answer) {
      inbox->put({number, std::move(answer)});
    });
  }

  void store(size_t number, const server::LocalAnswer& answer) {
    if (answer.status >= 400) ++failed_;
    output_.append(batch_answer(requests_[number], ++answers_, answer.status, answer.body));
    ++stored_;
    progress_.update(static_cast<double>(stored_) / static_cast<double>(requests_.size()),
                     fmt::format("{} of {}", stored_, requests_.size()));
  }

  const BatchFlags& flags_;
  const std::vector<BatchRequest>& requests_;
  LineFile& output_;
  size_t answers_;  ///< In the file.
  size_t stored_ = 0;
  size_t failed_ = 0;
  Progress progress_{stderr, "answering"};
};

/// Files that were written for other servers name other models.
void tell_of_models(const std::vector<BatchRequest>& requests, const std::string& file) {
  std::set<std::string> names;
  for (const BatchRequest& request : requests) {
    const Json* name = request.body.find("model");
    if (name != nullptr && name->is_string()) names.insert(name->text());
  }
  if (names.empty()) return;
  notice(fmt::format("requests for {} are answered by {}", fmt::join(names, ", "), file));
}

void check_urls(const server::LocalClient& client, const std::vector<BatchRequest>& requests) {
  for (const BatchRequest& request : requests) {
    const bool answers = request.url.starts_with("/v1/") && client.knows("POST", request.url) &&
                         !request.url.starts_with("/v1/documents");
    if (answers) continue;
    throw Error(ErrorCode::kInput,
                fmt::format("request '{}': there is no url {}; /v1/chat/completions, "
                            "/v1/completions and /v1/responses are known",
                            request.id, request.url));
  }
}

int batch(const BatchFlags& flags) {
  require_model(flags.model);
  use_threads(flags.threads);
  CommandFiles files;
  files.reads("--model", flags.model);
  files.reads("requests", flags.input);
  refuse_standard_output("--output", flags.output);
  const server::ServiceOptions options = service_options(flags);
  files.writes("--output", flags.output);
  const std::vector<BatchRequest> all = read_batch(flags.input);

  LineFile output(flags.output);
  const std::set<std::string> done = answered_ids(output.lines(), flags.output);
  output.remove_torn_line();
  std::vector<BatchRequest> left;
  for (const BatchRequest& request : all) {
    if (!done.contains(request.id)) left.push_back(request);
  }
  if (left.size() < all.size()) {
    notice(fmt::format("{} of {} answers are there already", all.size() - left.size(), all.size()));
  }
  if (left.empty()) return kSuccess;
  std::vector<SharedBeginning> groups =
      shared_beginnings(left, kLeastBytes, flags.no_share ? left.size() + 1 : kLeastRequests);

  server::ServiceSlot slot;
  server::Workers workers(2);
  server::Workers uploads(1);
  const server::Router router = server::make_routes(workers, uploads, slot, options.error_log);
  const server::LocalClient client(router);
  check_urls(client, left);
  tell_of_models(left, flags.model);
  const auto service = std::make_shared<server::Service>(options, nullptr);
  slot.set(service);
  for (const SharedBeginning& group : groups) {
    if (group.text.empty()) continue;
    notice(
        fmt::format("{} requests begin with the same {} bytes, which are read once (method {}); "
                    "--no-share reads them with each",
                    group.requests.size(), group.text.size(),
                    options.document_session.options.compression.method));
  }
  catch_interrupts();
  const Stopwatch watch;
  Batch work(flags, left, output, done.size());
  try {
    work.run(client, groups);
  } catch (const Error& e) {
    service->scheduler.shutdown(0ms);
    if (e.code() == ErrorCode::kInterrupted) {
      notice("the same command goes on with the requests that are left");
    }
    throw;
  }
  service->scheduler.shutdown(0ms);
  say(fmt::format("{} request{} in {:.1f} s", left.size(), left.size() == 1 ? "" : "s",
                  watch.seconds()));
  if (work.failed() == 0) return kSuccess;
  notice(
      fmt::format("{} of {} requests failed; \"status_code\" is 400 or more in their lines of {}",
                  work.failed(), left.size(), flags.output));
  return kFailure;
}

}  // namespace

std::function<int()> declare_batch(ArgumentParser& parser) {
  auto flags = std::make_shared<BatchFlags>();
  declare_model(parser, flags->model);
  parser
      .add("requests", flags->input,
           "JSON Lines with custom_id, url (/v1/chat/completions, ...) and body of each request",
           "FILE")
      .required();
  parser
      .add("-o,--output", flags->output,
           "write the answers as JSON Lines; goes on where an earlier start has stopped", "FILE")
      .required();
  parser.add("--parallel", flags->parallel, "requests answered at the same time", "N").range(1, 64);
  parser
      .add("-n,--max-tokens", flags->max_tokens, "most tokens of an answer that asks for no limit",
           "N")
      .range(1, 1 << 30);
  parser.add_flag("--no-share", flags->no_share,
                  "read a text that several requests begin with once for each of them");
  parser.add("--memory", flags->memory,
             "memory for caches and prompts besides the model, as 8GiB (default: 70% of what is "
             "free)",
             "BYTES");
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  flags->seed = parser.find("seed");
  parser.set_footer(
      "Each body is answered as restkv serve would answer it. Options here are what a body does "
      "not\n"
      "say. A text that three or more chats begin with is read once, as a document.\n"
      "Examples:\n"
      "  restkv batch -m model.gguf requests.jsonl -o answers.jsonl\n"
      "A line of requests.jsonl:\n"
      "  {\"custom_id\": \"1\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\",\n"
      "   \"body\": {\"messages\": [{\"role\": \"user\", \"content\": \"Who wrote it?\"}]}}\n"
      "Exit codes: 0 done, 1 a request failed (or model, input or output), 2 wrong options, 130\n"
      "interrupted.");
  return [flags] { return batch(*flags); };
}

}  // namespace restkv::cli
