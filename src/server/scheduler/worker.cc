#include "server/scheduler/worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <utility>

#include "base/memory.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "server/scheduler/prompt_order.h"
#include "server/scheduler/slots.h"

namespace restkv::server {
namespace {

/// How often others are shown what happens.
constexpr double kPublishSeconds = 0.05;
/// Listeners hear of so much of a prompt at a time.
constexpr double kProgressStep = 0.01;
/// After so long without work, what earlier requests have left of memory goes back to the system.
constexpr std::chrono::seconds kIdle{1};
/// Weight of what was measured last.
constexpr double kNewest = 0.3;

/// Memory that a sequence of a file of so many bytes takes: heads have some room to grow.
size_t loaded_bytes(size_t of_file) { return of_file + of_file / 8; }

bool is_reading(const Job& job) { return job.session.has_value(); }

std::unique_ptr<Job> take_out(std::vector<std::unique_ptr<Job>>& jobs, const Job& job) {
  const auto found =
      std::ranges::find_if(jobs, [&](const auto& other) { return other.get() == &job; });
  if (found == jobs.end()) return nullptr;
  std::unique_ptr<Job> taken = std::move(*found);
  jobs.erase(found);
  return taken;
}

void tell_closed(Listener* listener) {
  if (listener == nullptr) return;
  try {
    listener->closed();
  } catch (...) {
    // It is over anyway.
  }
}

}  // namespace

void tell_kept(const KeptQuestion& question, std::optional<KeptTokens> kept) {
  try {
    question.hears(std::move(kept));
  } catch (...) {
    // Who asked has no request that could fail.
  }
}

Worker::Worker(const Model& model, const Tokenizer& tokenizer, const SchedulerOptions& options,
               size_t memory_limit, std::shared_ptr<ThreadPool> threads, Inbox& inbox)
    : model_(model),
      tokenizer_(tokenizer),
      options_(options),
      inbox_(inbox),
      engine_(model, std::move(threads)),
      memory_(memory_limit),
      engine_memory_(memory_, engine_footprint(model)),
      kept_(options.max_kept,
            [this](KeptSequence sequence) {
              if (disk_) disk_->write(std::move(sequence));
            }),
      batch_([this](auto tokens, auto members) { return decode(tokens, members); },
             [this](size_t member, const Batch::Cost& cost) { answer_ended(member, cost); }),
      share_(options.prompt_share) {
  if (!options.cache_dir.empty()) open_disk();
  publish(true);
}

void Worker::run() {
  while (take_in()) {
    begin_waiting();
    step();
    close_ended();
    publish(active_.empty());
  }
  publish(true);
  leave_inbox();
  if (disk_) save_all();
}

// ---- What comes from the inbox ---------------------------------------------------------------

bool Worker::take_in() {
  std::deque<std::unique_ptr<Job>> submitted;
  std::vector<RequestId> cancelled;
  std::vector<DocumentId> removed;
  std::vector<KeptQuestion> questions;
  {
    std::unique_lock lock(inbox_.mutex);
    const bool waits = waits_for_disk();
    const auto something_to_do = [&] {
      return !active_.empty() || !inbox_.submitted.empty() || !inbox_.cancelled.empty() ||
             !inbox_.removed.empty() || !inbox_.questions.empty() ||
             (disk_ && disk_->can_collect()) ||
             (waits ? inbox_.stop_at != stop_at_ : !waiting_.empty() || inbox_.stop_at.has_value());
    };
    if (waits && stop_at_) {
      inbox_.changed.wait_until(lock, *stop_at_, something_to_do);
    } else {
      if (!inbox_.changed.wait_for(lock, kIdle, something_to_do)) {
        lock.unlock();
        return_free_memory();
        lock.lock();
      }
      inbox_.changed.wait(lock, something_to_do);
    }
    submitted.swap(inbox_.submitted);
    cancelled.swap(inbox_.cancelled);
    removed.swap(inbox_.removed);
    questions.swap(inbox_.questions);
    stop_at_ = inbox_.stop_at;
  }
  if (disk_) disk_->collect();
  for (std::unique_ptr<Job>& job : submitted) arrive(std::move(job));
  for (const DocumentId& id : removed) remove_document(id);
  for (auto* jobs : {&waiting_, &active_}) {
    for (const std::unique_ptr<Job>& job : *jobs) {
      job->cancelled = job->cancelled || std::ranges::find(cancelled, job->id) != cancelled.end();
    }
  }
  end_cancelled();
  for (const KeptQuestion& question : questions) tell_kept(question, find_kept(question));
  if (!stop_at_) return true;
  if (Clock::now() >= *stop_at_) {
    cancel_all(Error(ErrorCode::kInterrupted, "the server is shutting down"));
  }
  return !active_.empty() || !waiting_.empty();
}

void Worker::arrive(std::unique_ptr<Job> job) {
  const Request& request = job->request;
  job->expected = request.prompt.size();
  if (request.reuse && !request.document && !request.prompt_logprobs) {
    size_t there = kept_.find(request.prompt, job->key).tokens;
    if (disk_) {
      const auto found = disk_->find(request.prompt, job->key, there);
      if (found) there = found->tokens;
    }
    job->expected -= there;
  }
  waiting_.push_back(std::move(job));
}

void Worker::remove_document(const DocumentId& id) {
  kept_.remove_document(id);
  if (disk_) disk_->remove_document(id);
  for (auto* jobs : {&waiting_, &active_}) {
    for (const std::unique_ptr<Job>& job : *jobs) {
      job->cancelled = job->cancelled || job->document == id;
    }
  }
}

void Worker::end_cancelled() {
  std::vector<Job*> ending;
  for (auto* jobs : {&waiting_, &active_}) {
    for (const std::unique_ptr<Job>& job : *jobs) {
      if (job->cancelled) ending.push_back(job.get());
    }
  }
  for (Job* job : ending) end(*job, Error(ErrorCode::kInterrupted, "the request was cancelled"));
}

void Worker::cancel_all(const Error& why) {
  while (!active_.empty()) end(*active_.front(), why);
  while (!waiting_.empty()) end(*waiting_.front(), why);
}

std::optional<KeptTokens> Worker::find_kept(const KeptQuestion& question) const {
  const KeptSequence* found = nullptr;
  if (!question.document.empty()) {
    found = kept_.document(question.document);
  } else if (question.request > 0) {  // 0: sequences of an earlier scheduler
    for (const auto& [member, answer] : answers_) {
      const Job& job = answer->job();
      if (job.id != question.request || answer->index() != question.answer) continue;
      return kept_tokens(model_.config(), answer->session(), answer->read());
    }
    const auto it = std::ranges::find_if(kept_.all(), [&](const KeptSequence& sequence) {
      return sequence.info.request == question.request && sequence.info.answer == question.answer;
    });
    if (it != kept_.all().end()) found = &*it;
  }
  if (found == nullptr) return std::nullopt;
  return kept_tokens(model_.config(), found->session, found->tokens);
}

void Worker::leave_inbox() {
  std::vector<KeptQuestion> questions;
  {
    const std::scoped_lock lock(inbox_.mutex);
    inbox_.ended = true;
    questions.swap(inbox_.questions);
  }
  for (const KeptQuestion& question : questions) tell_kept(question, find_kept(question));
}

// ---- From waiting to reading -----------------------------------------------------------------

double Worker::order(const Job& job) const {
  auto remaining = static_cast<double>(job.expected);
  if (is_reading(job)) {
    remaining = static_cast<double>(job.usage.prompt_tokens - job.usage.cached_tokens) *
                (1 - (job.prompt ? job.prompt->done() : 0));
  }
  return prompt_order(seconds_between(began_, job.submitted), remaining, seconds_per_token_);
}

Job* Worker::first_reading() const {
  Job* first = nullptr;
  for (const std::unique_ptr<Job>& job : active_) {
    if (!is_reading(*job)) continue;
    if (first == nullptr || order(*job) < order(*first)) first = job.get();
  }
  return first;
}

bool Worker::waits_for_document(const Job& job) const {
  if (!job.request.document || kept_.document(*job.request.document) != nullptr) return false;
  const std::scoped_lock lock(inbox_.mutex);
  const auto found = inbox_.documents.find(*job.request.document);
  if (found == inbox_.documents.end()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("document {} has been removed", *job.request.document));
  }
  if (found->second.state == DocumentInfo::State::kFailed) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("document {} could not be read: {}", *job.request.document,
                            found->second.error));
  }
  return true;
}

Job* Worker::first_waiting() {
  Job* first = nullptr;
  std::vector<std::pair<Job*, Error>> failed;
  for (const std::unique_ptr<Job>& job : waiting_) {
    if (job->loading) continue;
    try {
      if (waits_for_document(*job)) continue;
    } catch (const Error& error) {
      failed.emplace_back(job.get(), error);
      continue;
    }
    if (first == nullptr || order(*job) < order(*first)) first = job.get();
  }
  for (const auto& [job, error] : failed) end(*job, error);
  return first;
}

size_t Worker::answers_promised() const {
  size_t answers = 0;
  for (const std::unique_ptr<Job>& job : active_) {
    answers += is_reading(*job) ? job->request.n : job->writing;
  }
  return answers;
}

void Worker::begin_waiting() {
  while (true) {
    const auto reading =
        std::ranges::count_if(active_, [](const auto& job) { return is_reading(*job); });
    if (static_cast<size_t>(reading) >= options_.max_prompts) return;
    Job* const job = first_waiting();
    if (job == nullptr) return;
    if (const Job* under_way = first_reading();
        under_way != nullptr && order(*under_way) <= order(*job)) {
      return;
    }
    if (answers_promised() + job->request.n > options_.max_answers) return;
    try {
      // Nobody goes before one that waits for memory: it would wait for ever.
      if (begin(*job) == Begun::kNotNow) {
        if (!active_.empty() || disk_is_busy()) return;
        if (kept_.let_all_go()) continue;
        throw Error(ErrorCode::kOutOfMemory,
                    fmt::format("there is not enough memory for this request beside the documents, "
                                "which with the engine take {} of {}; remove some",
                                human_bytes(static_cast<double>(memory_.used())),
                                human_bytes(static_cast<double>(memory_.limit()))));
      }
    } catch (...) {
      end(*job, as_error(std::current_exception()));
    }
  }
}

bool Worker::make_room(size_t bytes, const KeptSequence* source, bool& takes_source) {
  const size_t of_source =
      source != nullptr && source->waited_for.empty() ? source->memory.bytes() : 0;
  const size_t free = memory_.free() + kept_.droppable_bytes() + bytes_in_writing();
  if (free < bytes) return false;
  takes_source = of_source > 0 && free - of_source < bytes;
  const size_t wanted = bytes - (takes_source ? std::min(bytes, of_source) : 0);
  while (memory_.free() + bytes_in_writing() < wanted && kept_.drop_oldest(source)) {
  }
  return memory_.free() >= wanted;
}

bool Worker::make_room(size_t bytes) {
  bool takes_source = false;
  return make_room(bytes, nullptr, takes_source);
}

Worker::Begun Worker::begin(Job& job) {
  const Request& request = job.request;
  const KeptSequence* from = request.document ? kept_.document(*request.document) : nullptr;
  job.tokens = from != nullptr ? from->tokens : std::vector<int32_t>();
  job.tokens.insert(job.tokens.end(), request.prompt.begin(), request.prompt.end());
  const bool reuse = request.reuse && !request.prompt_logprobs;
  kept_.let_go(job.id);
  KeptSequences::Found found = reuse ? kept_.find(job.tokens, job.key) : KeptSequences::Found();
  size_t cached = from != nullptr ? from->tokens.size() : 0;
  if (found.tokens <= cached) found = {};
  KeptSequence* const kept = found.sequence;
  if (kept != nullptr) {
    from = kept;
    cached = found.tokens;
  }
  if (reuse && disk_ && options_.max_kept > 0) {
    const auto begun = load_sequence(job, cached);
    if (begun) return *begun;
  }

  // A part of a sequence goes on as a new session does that has read it.
  const bool is_part = found.is_part();
  std::optional<Session> session;
  if (from == nullptr || is_part) session.emplace(engine_, job.options);
  const Session& base = session ? *session : from->session;
  const std::span<const int32_t> rest = std::span(job.tokens).subspan(cached);
  const std::optional<size_t> room = base.room_after(job.tokens.size() - base.tokens());
  if (!room) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the prompt has {} tokens, but the model's context holds {}; shorten "
                            "the prompt, or use a model with a longer context",
                            job.tokens.size(), model_.config().context_length));
  }
  // Nothing is appended for the last token of an answer.
  size_t& written = job.request.generation.max_tokens;
  if (*room != Session::kUnlimited) written = std::min(written, *room + 1);
  job.request.generation.min_tokens = std::min(job.request.generation.min_tokens, written);

  const Footprint need =
      footprint(model_, job.options,
                {.before = cached,
                 .held = is_part ? cached : most_kept(model_.config(), base.cache()),
                 .prompt = rest.size(),
                 .written = job.reads_document() ? 0 : written,
                 .reserved = reserves(request, job.options),
                 .scored = request.prompt_logprobs});
  bool takes_source = false;
  if (!make_room(need.total(request.n), kept, takes_source)) {
    if (kept != nullptr && job.asked_disk) kept->waited_for.push_back(job.id);
    return Begun::kNotNow;
  }
  if (is_part) {
    session.emplace(kept->session.fork_beginning(cached));
    // Both are there for a moment, in memory that the prompt will work in.
    if (takes_source) (void)kept_.take(kept);
  } else if (takes_source) {
    session.emplace(kept_.take(kept).session);
  } else if (from != nullptr) {
    session.emplace(from->session.fork());
  }
  job.memory = {memory_, need.total(request.n)};
  job.sequence_bytes = need.sequence;
  job.session = std::move(session);
  job.session->reserve(reserves(request, job.options) ? rest.size() + written : 0);
  job.compressed_before = job.session->compress_seconds();
  // A single token goes the way of all single tokens: see `step_prompt`.
  if (rest.size() > 1 || (rest.size() == 1 && cached == 0)) {
    PromptLogits scores;
    if (request.prompt_logprobs) {
      job.prompt_logprobs.resize(rest.size() - 1);
      scores = [&job](size_t first, Matrix<const float> logits) { job.score(first, logits); };
    }
    job.prompt = job.session->begin(rest, std::move(scores));
  }

  job.begun = Clock::now();
  job.usage.prompt_tokens = job.tokens.size();
  job.usage.cached_tokens = cached;
  job.usage.queued_seconds = seconds_between(job.submitted, job.begun);
  job.ended.assign(request.n, false);
  totals_.tokens_cached += cached;
  if (kept != nullptr) ++totals_.prefix_hits;
  active_.push_back(take_out(waiting_, job));
  {
    const std::scoped_lock lock(inbox_.mutex);
    --inbox_.waiting;
    inbox_.seconds_per_begin +=
        kNewest * (seconds_between(std::max(last_begin_, job.submitted), job.begun) -
                   inbox_.seconds_per_begin);
  }
  last_begin_ = job.begun;
  if (job.reads_document()) change_document(job, DocumentInfo::State::kReading);
  job.tell([&](Listener& listener) { listener.started(job.usage); });
  return Begun::kYes;
}

// ---- Steps -----------------------------------------------------------------------------------

void Worker::step() {
  Job* const job = first_reading();
  const bool both = job != nullptr && !batch_.empty();
  if (!both) share_.forget();
  const Stopwatch watch;
  if (job != nullptr && (!both || share_.prompt_is_next())) {
    step_prompt(*job);
    share_.prompt_took(watch.seconds());
    totals_.prompt_seconds += watch.seconds();
  } else if (!batch_.empty()) {
    step_answers();
    share_.answers_took(watch.seconds());
    totals_.decode_seconds += watch.seconds();
  }
}

void Worker::step_prompt(Job& job) {
  const Stopwatch watch;
  try {
    bool more = false;
    if (job.prompt) {
      more = job.prompt->step(batch_.empty() ? Stride::kBlock : Stride::kPart);
    } else if (job.usage.cached_tokens < job.tokens.size()) {
      // Alone it would be multiplied otherwise, and an answer would depend on where a prompt was
      // cut.
      Session* const one[] = {&*job.session};
      Session::append_together(one, std::span(job.tokens).last(1));
    }
    job.computed += watch.seconds();
    if (!more) {
      prompt_complete(job);
      return;
    }
  } catch (...) {
    end(job, as_error(std::current_exception()));
    return;
  }
  const double done = job.prompt->done();
  if (done - job.told < kProgressStep) return;
  job.told = done;
  if (job.reads_document()) change_document(job, DocumentInfo::State::kReading);
  job.tell([&](Listener& listener) { listener.prompt_progress(done); });
}

void Worker::prompt_complete(Job& job) {
  job.prompt.reset();
  const size_t read = job.tokens.size() - job.usage.cached_tokens;
  totals_.tokens_read += read;
  if (read > 1) {
    seconds_per_token_ += kNewest * (job.computed / static_cast<double>(read) - seconds_per_token_);
  }
  job.usage.prompt_seconds = seconds_between(job.begun, Clock::now());
  Session session = std::move(*job.session);
  job.session.reset();
  const double compressed = session.compress_seconds() - job.compressed_before;
  job.usage.compress_ms = 1000 * compressed;
  totals_.compress_seconds += compressed;
  job.compressed_before = session.compress_seconds();
  job.tell([](Listener& listener) { listener.prompt_progress(1); });
  if (job.request.prompt_logprobs) {
    job.tell([&](Listener& listener) { listener.prompt_scored(job.prompt_logprobs); });
    job.prompt_logprobs = {};
  }

  if (job.reads_document()) {
    job.memory.resize(session.allocated_bytes() + job.tokens.size() * sizeof(int32_t));
    SlotInfo info = slot_of(model_.config(), session, SlotInfo::State::kDocument);
    info.request = job.id;
    info.prompt_tokens = job.tokens.size();
    {
      const std::scoped_lock lock(inbox_.mutex);
      if (const auto found = inbox_.documents.find(job.document); found != inbox_.documents.end()) {
        found->second.kept = average_kept(model_.config(), session.cache());
        found->second.kv_bytes = info.kv_bytes;
        found->second.full_kv_bytes = info.full_kv_bytes;
      }
    }
    kept_.add_document(job.document, {.tokens = std::move(job.tokens),
                                      .key = job.key,
                                      .session = std::move(session),
                                      .memory = std::move(job.memory),
                                      .info = std::move(info),
                                      .label = job.label});
    change_document(job, DocumentInfo::State::kReady);
    if (disk_) save_document(job.document, std::exchange(job.request.listener, nullptr));
    return;
  }
  const size_t n = job.request.n;
  job.memory.resize(n * job.sequence_bytes);
  std::vector<Session> sessions;  // the last one is the prompt's own
  for (size_t i = 0; i + 1 < n; ++i) sessions.push_back(session.fork());
  sessions.push_back(std::move(session));
  for (size_t i = 0; i < n; ++i) {
    const size_t member = next_member_++;
    try {
      auto answer = std::make_unique<Answer>(job, i, std::move(sessions[i]), tokenizer_);
      Answer& joining = *answer;
      answers_.emplace(member, std::move(answer));
      ++job.writing;
      batch_.join(member, joining, joining.session().logits());
    } catch (...) {
      if (answers_.erase(member) > 0) --job.writing;
      job.memory.resize(job.memory.bytes() - job.sequence_bytes);
      job.fail_answer(i, as_error(std::current_exception()));
    }
  }
}

void Worker::step_answers() {
  ++totals_.decode_steps;
  totals_.decode_rows += batch_.size();
  batch_.step();
}

Matrix<const float> Worker::decode(std::span<const int32_t> tokens,
                                   std::span<const size_t> members) {
  const size_t n = tokens.size();
  std::vector<Answer*> answers;
  std::vector<Session*> sessions;
  for (const size_t member : members) {
    answers.push_back(answers_.at(member).get());
    sessions.push_back(&answers.back()->session());
  }
  std::vector<std::exception_ptr> failures(n);
  const size_t groups = (n + Engine::kMaxBatch - 1) / Engine::kMaxBatch;
  for (size_t group = 0; group < groups; ++group) {
    const size_t first = group * n / groups;
    const size_t count = (group + 1) * n / groups - first;
    const std::span<std::exception_ptr> of_group = std::span(failures).subspan(first, count);
    try {
      Session::append_together(std::span(sessions).subspan(first, count),
                               tokens.subspan(first, count), of_group);
    } catch (...) {
      std::ranges::fill(of_group, std::current_exception());
    }
  }
  for (size_t i = 0; i < n; ++i) answers[i]->decoded(tokens[i], failures[i]);
  // Every answer looks at the logits of its own session.
  return {nullptr, n, 0};
}

void Worker::answer_ended(size_t member, const Batch::Cost& cost) {
  const auto node = answers_.extract(member);
  Answer& answer = *node.mapped();
  Job& job = answer.job();
  --job.writing;
  totals_.tokens_generated += answer.result().tokens.size();
  const Session& session = answer.session();
  const double compressed = session.compress_seconds() - job.compressed_before;
  totals_.compress_seconds += compressed;
  job.memory.resize(job.memory.bytes() - job.sequence_bytes);
  if (answer.failure() != nullptr) {
    job.fail_answer(answer.index(), as_error(answer.failure()));
    return;
  }
  Usage usage = job.usage;
  usage.completion_tokens = answer.result().tokens.size();
  usage.kept = average_kept(model_.config(), session.cache());
  usage.dropped = session.tokens() - std::min(session.tokens(), usage.kept);
  usage.kv_bytes = session.cache().kept_bytes();
  usage.full_kv_bytes = model_.config().kv_bytes(session.tokens());
  usage.compress_ms += 1000 * compressed;
  usage.decode_seconds = cost.seconds;
  GenerationResult result = answer.result();
  result.seconds = cost.seconds;
  result.steps = cost.steps;
  keep(answer);
  if (job.cancelled) return;  // its listener wants no more: `end_cancelled`
  job.ended[answer.index()] = true;
  job.tell([&](Listener& listener) { listener.finished(answer.index(), result, usage); });
}

// ---- Ends ------------------------------------------------------------------------------------

void Worker::keep(Answer& answer) {
  const Job& job = answer.job();
  std::vector<int32_t> tokens = answer.read();
  const size_t bytes =
      answer.session().allocated_bytes() + tokens.size() * sizeof(int32_t) + sizeof(KeptSequence);
  if (options_.max_kept == 0) return;
  SlotInfo info = slot_of(model_.config(), answer.session(), SlotInfo::State::kKept);
  info.request = job.id;
  info.answer = answer.index();
  info.prompt_tokens = job.tokens.size();
  const bool fits = make_room(bytes);
  KeptSequence sequence{.tokens = std::move(tokens),
                        .key = job.key,
                        .session = std::move(answer.session()),
                        .memory = {memory_, bytes},
                        .info = std::move(info),
                        .used = nanoseconds_since_1970()};
  if (fits) {
    kept_.keep(std::move(sequence));
  } else if (disk_) {
    disk_->write(std::move(sequence));
  }
}

void Worker::end(Job& job, const Error& why) {
  for (auto it = answers_.begin(); it != answers_.end();) {
    Answer& answer = *it->second;
    if (&answer.job() != &job) {
      ++it;
      continue;
    }
    batch_.leave(it->first);
    --job.writing;
    totals_.tokens_generated += answer.result().tokens.size();
    job.memory.resize(job.memory.bytes() - job.sequence_bytes);
    if (answer.failure() == nullptr) keep(answer);
    it = answers_.erase(it);
  }
  kept_.let_go(job.id);
  job.prompt.reset();
  job.session.reset();
  job.fail(why);
  close(job);
}

void Worker::close_ended() {
  std::vector<Job*> ended;
  for (const std::unique_ptr<Job>& job : active_) {
    if (!is_reading(*job) && job->writing == 0 && !job->cancelled) ended.push_back(job.get());
  }
  for (Job* job : ended) close(*job);
}

void Worker::close(Job& job) {
  std::unique_ptr<Job> owner = take_out(active_, job);
  const bool waited = owner == nullptr;
  if (waited) owner = take_out(waiting_, job);
  if (job.reads_document() && job.error) change_document(job, DocumentInfo::State::kFailed);
  job.memory.resize(0);
  {
    const std::scoped_lock lock(inbox_.mutex);
    if (waited) --inbox_.waiting;
  }
  ++(!job.error                                                      ? totals_.completed
     : job.cancelled || job.error->code() == ErrorCode::kInterrupted ? totals_.cancelled
                                                                     : totals_.failed);
  tell_closed(job.request.listener.get());
}

// ---- The disk --------------------------------------------------------------------------------

void Worker::open_disk() {
  disk_.emplace(
      engine_,
      DiskCache::Options{
          .folder = options_.cache_dir, .limit = options_.cache_size, .log = options_.error_log},
      [this] {
        // So that it is not missed between a look and a wait.
        const std::scoped_lock lock(inbox_.mutex);
        inbox_.changed.notify_one();
      });
  for (const auto& [id, info] : disk_->documents_found()) load_document(info);
}

void Worker::save_document(const DocumentId& id, const std::shared_ptr<Listener>& hears) {
  disk_->write_document(id, kept_.documents().at(id), [this, id, hears](bool saved) {
    {
      const std::scoped_lock lock(inbox_.mutex);
      const auto found = inbox_.documents.find(id);
      if (found != inbox_.documents.end()) found->second.saved = saved;
    }
    tell_closed(hears.get());
  });
}

void Worker::load_document(const DocumentInfo& info) {
  const DocumentId& id = info.id;
  const size_t bytes = loaded_bytes(disk_->document_bytes(id));
  const bool fits = memory_.free() >= bytes;
  {
    const std::scoped_lock lock(inbox_.mutex);
    DocumentInfo& shown = inbox_.documents[id] = info;
    if (!fits) {
      shown.state = DocumentInfo::State::kFailed;
      shown.error = fmt::format(
          "it needs {} of memory, and {} of {} are free; remove others, or "
          "raise memory_limit, and restart",
          human_bytes(static_cast<double>(bytes)), human_bytes(static_cast<double>(memory_.free())),
          human_bytes(static_cast<double>(memory_.limit())));
    }
  }
  if (!fits) return;
  disk_->read_document(id, {memory_, bytes}, [this, id](std::optional<KeptSequence> sequence) {
    document_loaded(id, std::move(sequence));
  });
}

void Worker::document_loaded(const DocumentId& id, std::optional<KeptSequence> sequence) {
  const std::scoped_lock lock(inbox_.mutex);
  const auto found = inbox_.documents.find(id);
  if (found == inbox_.documents.end()) return;  // it was removed meanwhile
  DocumentInfo& info = found->second;
  if (!sequence) {
    info.state = DocumentInfo::State::kFailed;
    info.saved = false;
    info.error = "its file in cache_dir cannot be used; add it again";
    return;
  }
  info.state = DocumentInfo::State::kReady;
  info.done = 1;
  kept_.add_document(id, std::move(*sequence));
}

std::optional<Worker::Begun> Worker::load_sequence(Job& job, size_t longer_than) {
  if (job.asked_disk) return std::nullopt;
  const auto found = disk_->find(job.tokens, job.key, longer_than);
  if (!found) return std::nullopt;
  const size_t bytes = loaded_bytes(found->bytes);
  if (!make_room(bytes)) {
    if (!active_.empty() || disk_is_busy()) return Begun::kNotNow;
    return std::nullopt;
  }
  job.asked_disk = true;
  job.loading = true;
  disk_->read(*found, {memory_, bytes}, [this, id = job.id](std::optional<KeptSequence> sequence) {
    sequence_loaded(id, std::move(sequence));
  });
  return Begun::kLoading;
}

void Worker::sequence_loaded(RequestId id, std::optional<KeptSequence> sequence) {
  for (const std::unique_ptr<Job>& job : waiting_) {
    if (job->id != id) continue;
    job->loading = false;
    if (sequence) sequence->waited_for = {id};
  }
  if (sequence) kept_.keep(std::move(*sequence));
}

void Worker::save_all() {
  for (const auto& [id, sequence] : kept_.documents()) save_document(id, nullptr);
  disk_->finish(kept_.take_all());
  const std::scoped_lock lock(inbox_.mutex);
  inbox_.status.disk = disk_->status();
}

// ---- For others to see -----------------------------------------------------------------------

void Worker::change_document(const Job& job, DocumentInfo::State state) {
  const std::scoped_lock lock(inbox_.mutex);
  const auto found = inbox_.documents.find(job.document);
  if (found == inbox_.documents.end()) return;
  DocumentInfo& info = found->second;
  info.state = state;
  if (job.prompt) info.done = job.prompt->done();
  if (state == DocumentInfo::State::kReady) info.done = 1;
  if (job.error) info.error = job.error->what();
}

void Worker::publish(bool now) {
  const Clock::time_point time = Clock::now();
  if (!now && seconds_between(published_, time) < kPublishSeconds) return;
  published_ = time;
  SchedulerStatus status = totals_;
  status.memory_limit = memory_.limit();
  status.memory_used = memory_.used();
  status.evictions = kept_.dropped();
  if (disk_) status.disk = disk_->status();
  for (const std::unique_ptr<Job>& job : active_) {
    if (!is_reading(*job)) continue;
    ++status.reading;
    SlotInfo& slot = status.slots.emplace_back(
        slot_of(model_.config(), *job->session, SlotInfo::State::kReading));
    slot.request = job->id;
    slot.prompt_tokens = job->tokens.size();
  }
  for (const auto& [member, answer] : answers_) {
    ++status.writing;
    SlotInfo& slot = status.slots.emplace_back(
        slot_of(model_.config(), answer->session(), SlotInfo::State::kWriting));
    slot.request = answer->job().id;
    slot.answer = answer->index();
    slot.prompt_tokens = answer->job().tokens.size();
    status.tokens_generated += answer->result().tokens.size();
  }
  for (const KeptSequence& sequence : kept_.all()) status.slots.push_back(sequence.info);
  for (const auto& [id, sequence] : kept_.documents()) status.slots.push_back(sequence->info);
  const std::scoped_lock lock(inbox_.mutex);
  inbox_.status = std::move(status);
}

}  // namespace restkv::server
