#include "server/service/reply.h"

#include <stdexcept>
#include <utility>

#include "server/service/refusals.h"

namespace restkv::server {
namespace {

/// Thrown out of a listener: its request is cancelled.
struct NobodyReads : std::exception {};

}  // namespace

class Reply::PromptListener : public Listener {
 public:
  PromptListener(std::shared_ptr<Reply> reply, size_t prompt, size_t first_choice)
      : reply_(std::move(reply)), prompt_(prompt), first_choice_(first_choice) {}

  void started(const Usage& usage) override { reply_->started(usage); }
  void prompt_scored(std::span<const TokenLogprob> logprobs) override {
    reply_->scored(prompt_, logprobs);
  }
  void wrote(const Piece& piece) override {
    if (!reply_->wrote(first_choice_ + piece.answer, piece)) throw NobodyReads();
  }
  void finished(size_t answer, const GenerationResult& result, const Usage& usage) override {
    reply_->finished(first_choice_ + answer, result, usage);
  }
  void failed(size_t /*answer*/, const Error& error) override { reply_->failed(error); }
  void closed() override { reply_->closed(); }

 private:
  std::shared_ptr<Reply> reply_;
  size_t prompt_;
  size_t first_choice_;
};

Reply::Reply(Scheduler& scheduler, Responder responder, std::unique_ptr<AnswerWriter> writer,
             bool stream, std::function<void(const std::string&)> error_log)
    : scheduler_(scheduler),
      responder_(std::move(responder)),
      writer_(std::move(writer)),
      stream_(stream),
      error_log_(std::move(error_log)) {}

RequestId Reply::submit(std::vector<Request> requests) {
  open_ = requests.size();
  size_t choice = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].listener = std::make_shared<PromptListener>(shared_from_this(), i, choice);
    choice += requests[i].n;
  }
  const std::vector<RequestId> ids = scheduler_.submit(std::move(requests));
  {
    const std::scoped_lock lock(ids_mutex_);
    ids_ = ids;
  }
  bool over = false;
  {
    const std::scoped_lock lock(mutex_);
    over = over_;
  }
  if (over) cancel_all();  // one has failed before anybody knew how to cancel the others
  // The responder must not keep its own callback alive.
  responder_.on_gone([weak = weak_from_this()] {
    if (const auto reply = weak.lock()) reply->cancel_all();
  });
  return ids.front();
}

void Reply::cancel_all() {
  std::vector<RequestId> ids;
  {
    const std::scoped_lock lock(ids_mutex_);
    ids = ids_;
  }
  for (const RequestId id : ids) scheduler_.cancel(id);
}

void Reply::send(const std::string& events) {
  if (over_ || !stream_) return;
  if (!std::exchange(streaming_, true)) {
    responder_.begin_stream(200, {{"Content-Type", "text/event-stream"}});
  }
  if (!events.empty() && !responder_.write(events)) over_ = true;
}

void Reply::started(const Usage& usage) {
  const std::scoped_lock lock(mutex_);
  totals_.counts.prompt += usage.prompt_tokens;
  totals_.counts.cached += usage.cached_tokens;
  if (!over_) send(writer_->begin(totals_.counts));
}

void Reply::scored(size_t prompt, std::span<const TokenLogprob> logprobs) {
  const std::scoped_lock lock(mutex_);
  if (!over_) send(writer_->scored(prompt, logprobs));
}

bool Reply::wrote(size_t choice, const Piece& piece) {
  {
    const std::scoped_lock lock(mutex_);
    if (!over_) send(writer_->write(choice, piece));
    if (!over_) return true;
  }
  cancel_all();  // the other prompts', too
  return false;
}

void Reply::finished(size_t choice, const GenerationResult& result, const Usage& usage) {
  const std::scoped_lock lock(mutex_);
  if (over_) return;
  totals_.counts.completion += usage.completion_tokens;
  CacheReport& cache = totals_.cache ? *totals_.cache : totals_.cache.emplace();
  cache.kept = usage.kept;
  cache.dropped = usage.dropped;
  cache.kv_bytes += usage.kv_bytes;
  cache.full_kv_bytes += usage.full_kv_bytes;
  cache.compress_ms += usage.compress_ms;
  send(writer_->finish(choice, result, usage, totals_));
}

void Reply::failed(const Error& error) {
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(over_, true)) return;
    const HttpError refusal = refusal_of(std::make_exception_ptr(error), error_log_);
    if (streaming_) {
      responder_.write(writer_->fail(refusal));
      responder_.end();
    } else {
      responder_.send(refusal.status(), refusal.headers(), writer_->refusal(refusal));
    }
  }
  cancel_all();
}

void Reply::closed() {
  const std::scoped_lock lock(mutex_);
  if (--open_ > 0 || std::exchange(over_, true)) return;
  if (streaming_) {
    responder_.end();
  } else {
    responder_.send_json(200, writer_->whole(totals_));
  }
}

}  // namespace restkv::server
