#include "server/scheduler/job.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/caught_error.h"
#include "base/threads.h"
#include "generate/logprobs.h"

namespace restkv::server {

Error as_error(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kOutOfMemory, "the system has no memory left for this request"};
  } catch (...) {
    return caught_error();
  }
}

Answer::Answer(Job& job, size_t index, Session session, const Tokenizer& tokenizer)
    : job_(job), index_(index), session_(std::move(session)) {
  GenerationOptions options = job.request.generation;
  options.sampling.seed = seed_of_answer(options.sampling.seed, index);
  options.on_text = [this](std::string_view text) { return hand_out(text); };
  if (job.request.constraint) constraint_ = job.request.constraint();
  options.constraint = constraint_.get();
  generation_.emplace(tokenizer, std::move(options));
}

std::optional<int32_t> Answer::next(std::span<const float> /*logits*/) {
  if (failure_ != nullptr) return std::nullopt;
  try {
    return generation_->next(session_.logits());
  } catch (...) {
    failure_ = std::current_exception();
    return std::nullopt;
  }
}

void Answer::decoded(int32_t token, std::exception_ptr failure) {
  failure_ = std::move(failure);
  if (failure_ == nullptr) appended_.push_back(token);
}

std::vector<int32_t> Answer::read() const {
  std::vector<int32_t> tokens = job_.tokens;
  tokens.insert(tokens.end(), appended_.begin(), appended_.end());
  return tokens;
}

bool Answer::hand_out(std::string_view text) {
  const GenerationResult& result = generation_->result();
  Piece piece{.answer = index_,
              .text = text,
              .tokens = std::span(result.tokens).subspan(handed_out_),
              .logprobs = {}};
  if (!result.logprobs.empty()) piece.logprobs = std::span(result.logprobs).subspan(handed_out_);
  handed_out_ = result.tokens.size();
  job_.tell([&](Listener& listener) { listener.wrote(piece); });
  return !job_.cancelled;
}

void Job::score(size_t first, Matrix<const float> logits) {
  const size_t rows = std::min(logits.rows, prompt_logprobs.size() - first);
  parallel_for(rows, [&](size_t row, size_t /*thread*/) {
    prompt_logprobs[first + row] =
        logprob_of(tokens[first + row + 1], logits.row_span(row), *request.prompt_logprobs);
  });
}

void Job::fail_answer(size_t index, const Error& why) {
  if (!error) error = why;
  if (index < ended.size()) {
    if (ended[index]) return;
    ended[index] = true;
  }
  tell([&](Listener& listener) { listener.failed(index, why); });
}

void Job::fail(const Error& why) {
  if (reads_document()) fail_answer(0, why);
  for (size_t i = 0; i < request.n; ++i) fail_answer(i, why);
}

}  // namespace restkv::server
