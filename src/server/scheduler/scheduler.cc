#include "server/scheduler/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/memory.h"
#include "restkv/conversation.h"
#include "server/scheduler/admission.h"
#include "server/scheduler/inbox.h"
#include "server/scheduler/kept_sequences.h"
#include "server/scheduler/session_key.h"
#include "server/scheduler/worker.h"

namespace restkv::server {
namespace {

/// 70% of what is available beside the weights.
size_t default_memory_limit(const Model& model) {
  const size_t available = available_memory();
  const size_t weights = model.config().file_bytes;
  return (available - std::min(available, weights)) / 10 * 7;
}

}  // namespace

struct Scheduler::Impl {
  Impl(const Model& model, const Tokenizer& tokenizer_of_model, const SchedulerOptions& given,
       std::shared_ptr<ThreadPool> threads)
      : tokenizer(tokenizer_of_model),
        options(with_words(given)),
        probes(model),
        memory_limit(given.memory_limit > 0 ? given.memory_limit : default_memory_limit(model)) {
    check_options(model, options);
    worker.emplace(model, tokenizer, options, memory_limit, std::move(threads), inbox);
    thread = std::thread([this] { worker->run(); });
  }

  /// What is said around prompts that the model repeats, for methods that let it.
  void add_words(SessionOptions& session) const {
    if (repeat_chunk(session.compression) > 0) session.repeat = repeat_prompt(tokenizer);
  }
  [[nodiscard]] SchedulerOptions with_words(SchedulerOptions given) const {
    add_words(given.session);
    return given;
  }

  /// How the caches of a request are to be made, and how much its document has read.
  std::pair<SessionOptions, size_t> find_session(const Request& request) {
    if (!request.document) {
      SessionOptions session = request.session.value_or(options.session);
      if (request.prompt_logprobs) {
        session.chunk = 0;
        session.sparse = {};
      }
      add_words(session);
      return {session, 0};
    }
    const std::scoped_lock lock(inbox.mutex);
    const auto found = inbox.documents.find(*request.document);
    if (found == inbox.documents.end()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no document {}", *request.document));
    }
    const DocumentInfo& info = found->second;
    if (request.session && session_key(*request.session) != session_key(info.session)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("document {} has been read with other options ({}); leave them out, "
                              "or add the document again with these",
                              info.id, session_key(info.session)));
    }
    SessionOptions session = info.session;
    add_words(session);
    return {session, info.tokens};
  }

  /// A job without a number. `is_document`: it is to become one. Throws what `submit` refuses.
  std::unique_ptr<Job> checked(Request request, bool is_document) {
    auto [session, before] = find_session(request);
    check_request(probes, options, request, session, before, is_document, memory_limit);
    auto job = std::make_unique<Job>(std::move(request));
    job->key = session_key(session);
    job->options = std::move(session);
    return job;
  }

  /// To the engine thread. Needs the inbox's mutex.
  void accept(std::vector<std::unique_ptr<Job>> jobs) {
    if (inbox.stop_at) throw Error(ErrorCode::kInterrupted, "the server is shutting down");
    if (inbox.waiting >= options.max_queue) {
      const double seconds = std::clamp(inbox.seconds_per_begin, 1.0, 600.0);
      throw Busy(fmt::format("{} requests are waiting already; try again in {:.0f} s",
                             inbox.waiting, seconds),
                 seconds);
    }
    for (std::unique_ptr<Job>& job : jobs) {
      job->id = ++last_id;
      ++inbox.waiting;
      ++inbox.accepted;
      inbox.submitted.push_back(std::move(job));
    }
    inbox.changed.notify_one();
  }

  /// `work`'s result; `requests` are counted as refused if it throws.
  auto counted(size_t requests, const auto& work) {
    try {
      return work();
    } catch (...) {
      const std::scoped_lock lock(inbox.mutex);
      inbox.refused += requests;
      throw;
    }
  }

  /// A name that no document has had before, in this process or an earlier one: clients remember
  /// names for long, and must not come to the document of somebody else with one. Later names are
  /// greater. Needs the inbox's mutex.
  DocumentId new_document() {
    last_document = std::max(last_document + 1, nanoseconds_since_1970() / 1000);
    return fmt::format("doc-{:013x}", last_document);
  }

  void ask(KeptQuestion question) {
    {
      const std::scoped_lock lock(inbox.mutex);
      if (!inbox.ended) {
        inbox.questions.push_back(std::move(question));
        inbox.changed.notify_one();
        return;
      }
    }
    tell_kept(question, std::nullopt);
  }

  const Tokenizer& tokenizer;
  const SchedulerOptions options;
  const Engine probes;  ///< For sessions that only answer questions; computes nothing.
  const size_t memory_limit;
  Inbox inbox;
  RequestId last_id = 0;      // needs the inbox's mutex
  int64_t last_document = 0;  ///< Microseconds since 1970; the same.
  std::optional<Worker> worker;
  std::thread thread;
  std::mutex ending;  ///< Held by the one who joins the thread.
};

Scheduler::Scheduler(const Model& model, const Tokenizer& tokenizer,
                     const SchedulerOptions& options, std::shared_ptr<ThreadPool> threads)
    : impl_(std::make_unique<Impl>(model, tokenizer, options, std::move(threads))) {}

Scheduler::~Scheduler() { shutdown(std::chrono::milliseconds(0)); }

RequestId Scheduler::submit(Request request) {
  std::vector<Request> one;
  one.push_back(std::move(request));
  return submit(std::move(one)).front();
}

std::vector<RequestId> Scheduler::submit(std::vector<Request> requests) {
  return impl_->counted(requests.size(), [&] {
    std::vector<std::unique_ptr<Job>> jobs;
    for (Request& request : requests) jobs.push_back(impl_->checked(std::move(request), false));
    std::vector<RequestId> ids(jobs.size());
    const std::scoped_lock lock(impl_->inbox.mutex);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = impl_->last_id + 1 + i;
    impl_->accept(std::move(jobs));
    return ids;
  });
}

void Scheduler::cancel(RequestId id) {
  const std::scoped_lock lock(impl_->inbox.mutex);
  impl_->inbox.cancelled.push_back(id);
  impl_->inbox.changed.notify_one();
}

DocumentId Scheduler::add_document(std::vector<int32_t> tokens,
                                   const std::optional<SessionOptions>& session,
                                   std::shared_ptr<Listener> listener, const std::string& label) {
  Request request;
  request.prompt = std::move(tokens);
  request.session = session;
  request.reuse = false;
  request.n = 0;
  request.listener = std::move(listener);
  return impl_->counted(1, [&] {
    std::vector<std::unique_ptr<Job>> jobs;
    jobs.push_back(impl_->checked(std::move(request), true));
    Job& job = *jobs.front();
    job.label = label;
    DocumentInfo info{
        .id = {}, .tokens = job.request.prompt.size(), .session = job.options, .label = label};
    const std::scoped_lock lock(impl_->inbox.mutex);
    DocumentId id = impl_->new_document();
    info.id = job.document = id;
    impl_->accept(std::move(jobs));
    impl_->inbox.documents[id] = std::move(info);
    return id;
  });
}

std::vector<DocumentInfo> Scheduler::documents() const {
  const std::scoped_lock lock(impl_->inbox.mutex);
  std::vector<DocumentInfo> all;
  for (const auto& [id, info] : impl_->inbox.documents) all.push_back(info);
  return all;
}

std::optional<DocumentInfo> Scheduler::document(const DocumentId& id) const {
  const std::scoped_lock lock(impl_->inbox.mutex);
  const auto found = impl_->inbox.documents.find(id);
  if (found == impl_->inbox.documents.end()) return std::nullopt;
  return found->second;
}

bool Scheduler::remove_document(const DocumentId& id) {
  const std::scoped_lock lock(impl_->inbox.mutex);
  if (impl_->inbox.documents.erase(id) == 0) return false;
  impl_->inbox.removed.push_back(id);
  impl_->inbox.changed.notify_one();
  return true;
}

void Scheduler::kept(const DocumentId& id, HearsKept hears) {
  impl_->ask({.document = id, .hears = std::move(hears)});
}

void Scheduler::kept(RequestId id, size_t answer, HearsKept hears) {
  impl_->ask({.document = {}, .request = id, .answer = answer, .hears = std::move(hears)});
}

void Scheduler::shutdown(std::chrono::milliseconds grace) {
  {
    const std::scoped_lock lock(impl_->inbox.mutex);
    const Clock::time_point stop_at = Clock::now() + grace;
    // The destructor may shorten the grace of somebody else's call.
    impl_->inbox.stop_at = std::min(impl_->inbox.stop_at.value_or(stop_at), stop_at);
    impl_->inbox.changed.notify_one();
  }
  const std::scoped_lock lock(impl_->ending);
  if (impl_->thread.joinable()) impl_->thread.join();
}

SchedulerStatus Scheduler::status() const {
  const std::scoped_lock lock(impl_->inbox.mutex);
  SchedulerStatus status = impl_->inbox.status;
  status.waiting = impl_->inbox.waiting;
  status.accepted = impl_->inbox.accepted;
  status.refused = impl_->inbox.refused;
  return status;
}

}  // namespace restkv::server
