#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/argument_parser.h"
#include "cli/byte_count.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/compression_flags.h"
#include "cli/model_argument.h"
#include "cli/process.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/signals.h"
#include "restkv/budget.h"
#include "restkv/error.h"
#include "restkv/threads.h"
#include "server/http/http_server.h"
#include "server/service/routes.h"
#include "server/service/service.h"
#include "server/service/workers.h"

namespace restkv::cli {
namespace {

using namespace std::chrono_literals;
using server::HttpServer;
using server::Service;
using server::ServiceOptions;

/// Long answers keep no more than the budget and this.
constexpr size_t kServeInterval = 256;
/// Threads for templates and tokens; they hardly ever have much to do.
constexpr size_t kWorkers = 2;
/// Threads for files that are uploaded, most of whose time goes into waiting for pdftotext.
constexpr size_t kUploadWorkers = 2;

struct ServeFlags {
  std::string model, alias, host = "127.0.0.1", api_key_file, memory, cache_dir;
  std::vector<std::string> api_keys, cors, host_names;
  size_t port = 8080;
  int threads = 0;
  size_t queue = 64, parallel = 32, max_tokens = 2048;
  double prompt_share = 0.75;
  int max_budget = 0;
  bool no_full = false;
  std::string cache_size = "20GiB", grace = "10s", max_body = "64MiB";
  size_t connections = 1000;
  std::string log_format = "text";
  bool no_log = false;
  std::string document_method = kMethodForLaterQuestions, document_budget;
  SessionFlags session{kServeInterval, "restkv", BudgetForm::kNumber};
  SamplingFlags sampling{SamplingOptions{.temperature = 0.8F}};
  const Option* seed = nullptr;
};

std::vector<std::string> read_keys(const ServeFlags& flags) {
  std::vector<std::string> keys = flags.api_keys;
  if (!flags.api_key_file.empty()) {
    const size_t before = keys.size();
    std::istringstream lines(read_file(flags.api_key_file));
    for (std::string line; std::getline(lines, line);) {
      const std::string_view key = trimmed(line);
      if (!key.empty() && !key.starts_with('#')) keys.emplace_back(key);
    }
    if (keys.size() == before) {
      throw Error(ErrorCode::kInput, flags.api_key_file + ": holds no key; write one on each line");
    }
  }
  return keys;
}

/// Connections beyond the limit on open files would be refused by the system without a word.
void allow_files(size_t connections) {
  constexpr rlim_t kOthers = 64;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = connections + kOthers;
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < wanted) {
    notice(
        fmt::format("this process may open {} files, which is too few for --connections {}; "
                    "raise the limit (ulimit -n)",
                    limit.rlim_cur, connections));
  }
}

/// How documents are compressed: as everything else, but for method and budget.
server::AskedSession document_session(const ServeFlags& flags, const SessionOptions& others) {
  server::AskedSession session{others};
  CompressionOptions& compression = session.options.compression;
  compression = parse_method(flags.document_method);
  compression.budget = others.compression.budget;
  if (flags.document_budget.empty()) return session;
  if (compression.method == "full") {
    throw Error(ErrorCode::kInvalidArgument,
                "--document-budget has no effect on method full, which keeps everything");
  }
  Budget budget;
  try {
    budget = parse_budget(flags.document_budget);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("--document-budget: {}", error.what()));
  }
  if (budget.share > 0) {
    session.share = budget;
    return session;
  }
  set_budget(compression, budget, 0);
  if (flags.max_budget > 0 && budget.tolerance > 0 && budget.tokens == 0) {
    compression.budget = flags.max_budget;
  }
  validate(compression);
  return session;
}

ServiceOptions service_options(const ServeFlags& flags) {
  ServiceOptions options;
  options.alias = flags.alias;
  options.model = flags.session.model();
  options.version = "restkv " RESTKV_VERSION;
  options.fixed_seed = flags.seed->given();
  options.error_log = [](const std::string& message) { say("error: " + message); };

  server::SchedulerOptions& scheduler = options.scheduler;
  scheduler.session = flags.session.session();
  scheduler.max_queue = flags.queue;
  scheduler.max_answers = flags.parallel;
  scheduler.prompt_share = flags.prompt_share;
  if (!flags.memory.empty()) scheduler.memory_limit = parse_byte_count(flags.memory, "--memory");

  scheduler.cache_dir = flags.cache_dir;
  scheduler.cache_size = parse_byte_count(flags.cache_size, "--cache-size");
  scheduler.error_log = [](std::string_view message) { say(message); };

  options.document_session = document_session(flags, scheduler.session);

  server::RequestLimits& limits = options.limits;
  limits.sampling = flags.sampling.resolve();
  limits.default_max_tokens = flags.max_tokens;
  limits.full_cache = !flags.no_full;
  if (flags.max_budget > 0) limits.max_budget = flags.max_budget;
  if (flags.no_full && scheduler.session.compression.method == "full") {
    throw Error(ErrorCode::kInvalidArgument,
                "--no-full refuses --method full, too; choose another method");
  }
  if (flags.max_budget > 0 && scheduler.session.compression.budget > flags.max_budget) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--budget {} is above --max-budget {}",
                            scheduler.session.compression.budget, flags.max_budget));
  }
  const CompressionOptions& of_documents = options.document_session.options.compression;
  if (flags.max_budget > 0 && !options.document_session.share &&
      of_documents.budget > flags.max_budget) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--document-budget {} is above --max-budget {}", of_documents.budget,
                            flags.max_budget));
  }
  return options;
}

server::ServerOptions http_options(const ServeFlags& flags) {
  server::ServerOptions http;
  http.host = flags.host;
  http.port = static_cast<uint16_t>(flags.port);
  http.api_keys = read_keys(flags);
  http.cors_origins = flags.cors;
  http.host_names = flags.host_names;
  http.connections = flags.connections;
  http.body_limit = parse_byte_count(flags.max_body, "--max-body");
  http.bodies_limit = std::max(http.bodies_limit, http.body_limit);
  http.error_log = [](const std::string& message) { say("error: " + message); };
  if (flags.log_format != "text" && flags.log_format != "json") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--log-format is '{}'; expected text or json", flags.log_format));
  }
  if (!flags.no_log) {
    const bool json = flags.log_format == "json";
    http.access_log = [json](const server::AccessEntry& entry) {
      say(json ? server::json_line(entry) : server::text_line(entry));
    };
  }
  return http;
}

void greet(const HttpServer& http, const Service& service, const ServeFlags& flags,
           double seconds) {
  const std::string url = http.url();
  const bool locked = !flags.api_keys.empty() || !flags.api_key_file.empty();
  const SessionOptions& session = service.options.scheduler.session;
  say(fmt::format("{} is ready after {:.1f} s (method {}, {} tokens per KV head and client)",
                  service.card.id, seconds, session.compression.method,
                  session.compression.method == "full"
                      ? std::string("all")
                      : std::to_string(session.compression.budget)));
  say(fmt::format("page:  {}/", url));
  say(fmt::format("API:   {}/v1", url));
  say(
      fmt::format("try:   curl {}/v1/chat/completions {}-H 'Content-Type: application/json' "
                  "-d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'",
                  url, locked ? "-H \"Authorization: Bearer $KEY\" " : ""));
}

int serve(const ServeFlags& flags) {
  require_model(flags.model);
  const Stopwatch watch;
  CommandFiles files;
  files.reads("--model", flags.model);
  files.reads("--api-key-file", flags.api_key_file);
  const std::chrono::milliseconds grace(parse_duration(flags.grace, "--grace"));
  ServiceOptions options = service_options(flags);
  server::ServerOptions http = http_options(flags);
  use_threads(flags.threads);
  allow_files(flags.connections);
  const bool is_local = flags.host == "127.0.0.1" || flags.host == "::1" ||
                        flags.host == "localhost" || flags.host.starts_with("127.");
  if (!is_local && http.api_keys.empty()) {
    notice("everybody who reaches " + flags.host +
           " may use this server; give it a key with --api-key-file FILE");
  }

  options.model_path = model_file(flags.model);
  server::ServiceSlot slot;
  server::Workers workers(kWorkers), uploads(kUploadWorkers);
  // Listens before the model is loaded, so that clients are told to wait.
  HttpServer door(std::move(http), server::make_routes(workers, uploads, slot, options.error_log));
  catch_interrupts();
  const auto service = std::make_shared<Service>(options, nullptr);
  slot.set(service);
  greet(door, *service, flags, watch.seconds());
  while (!interrupted()) std::this_thread::sleep_for(50ms);

  say("stopping; Ctrl-C once more ends at once");
  // New connections are refused while running answers finish.
  std::thread answers([&] { service->scheduler.shutdown(grace); });
  door.stop(grace + 2s);
  answers.join();
  return kSuccess;
}

}  // namespace

std::function<int()> declare_serve(ArgumentParser& parser) {
  auto flags = std::make_shared<ServeFlags>();
  declare_model(parser, flags->model);
  parser.add("--alias", flags->alias, "what clients call the model (default: the file's name)",
             "NAME");
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  parser.begin_group("Network");
  parser.add("--host", flags->host, "address to listen on; 0.0.0.0 is every one", "ADDRESS");
  parser.add("--port", flags->port, "port; 0 is any that is free", "N").range(0, 65535);
  parser.add_repeated("--api-key", flags->api_keys, "key that clients must send; repeatable",
                      "KEY");
  parser.add("--api-key-file", flags->api_key_file, "file with one key on each line", "FILE");
  parser
      .add_repeated("--cors", flags->cors,
                    "web pages that may call, https://example.org, or *; repeatable", "ORIGIN")
      .rare();
  parser
      .add_repeated("--host-name", flags->host_names,
                    "name by which a proxy or a hosts file knows this server; repeatable", "NAME")
      .rare();
  parser.add("--connections", flags->connections, "connections at a time", "N")
      .range(1, 100'000)
      .rare();
  parser.add("--max-body", flags->max_body, "largest body of a request", "BYTES").rare();
  parser.add("--log-format", flags->log_format, "form of the access log", "text|json").rare();
  parser.add_flag("--no-log", flags->no_log, "no access log").rare();
  parser.begin_group("Sharing");
  parser.add("--memory", flags->memory,
             "memory for caches and prompts besides the model, as 8GiB (default: 70% of what is "
             "free)",
             "BYTES");
  parser.add("--cache-dir", flags->cache_dir,
             "folder for documents and for sequences that leave memory; they are found again after "
             "a restart",
             "DIR");
  parser.add("--cache-size", flags->cache_size, "most bytes of the files in --cache-dir", "BYTES")
      .rare();
  parser.add("--queue", flags->queue, "requests that may wait; the next one gets 503", "N")
      .range(1, 1'000'000)
      .rare();
  parser.add("--parallel", flags->parallel, "answers that are written at the same time", "N")
      .range(1, 4096);
  parser
      .add("--prompt-share", flags->prompt_share,
           "share of the time for prompts while answers are written", "X")
      .range(0.01, 0.99)
      .rare();
  parser
      .add("-n,--max-tokens", flags->max_tokens, "most tokens of an answer that asks for no limit",
           "N")
      .range(1, 1 << 30);
  parser.add("--max-budget", flags->max_budget, "largest budget that a request may ask for", "N")
      .range(1, 1 << 30)
      .rare();
  parser.add_flag("--no-full", flags->no_full, "refuse requests that keep the whole cache").rare();
  parser.add("--document-method", flags->document_method,
             "how documents are compressed, before any question is known",
             "METHOD[:option=value...]");
  parser.add("--document-budget", flags->document_budget,
             "tokens that documents keep per KV head, a share of them, or as many as each layer "
             "chooses (default: --budget)",
             "N|P%|auto[:E]");
  parser.add("--grace", flags->grace, "time for running answers to end after Ctrl-C", "TIME")
      .rare();
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  flags->seed = parser.find("seed");
  parser.set_footer(
      "Examples:\n"
      "  restkv serve -m model.gguf\n"
      "  restkv serve -m model.gguf --host 0.0.0.0 --api-key-file keys --memory 8GiB\n"
      "  restkv serve -m model.gguf --budget 512 --max-budget 2048 --parallel 16\n"
      "Routes: OpenAI's (/v1/chat/completions, /v1/completions, /v1/models), llama.cpp's\n"
      "(/completion, /tokenize, /props, ...), /v1/documents, /metrics, and a page for people at "
      "/.\n"
      "docs/server.md describes them. Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 model or\n"
      "address could not be used, 2 wrong options.");
  return [flags] { return serve(*flags); };
}

}  // namespace restkv::cli
