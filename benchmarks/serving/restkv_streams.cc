#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "base/stopwatch.h"
#include "base/system.h"
#include "cli/model_flags.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/scheduler.h"
#include "serving/listener.h"
#include "serving/streams.h"

namespace restkv::bench {
namespace {

/// `--decode-interval` of `restkv serve`.
constexpr size_t kInterval = 256;

server::Request greedy(const Tokenizer& tokenizer, std::vector<int32_t> prompt, size_t tokens,
                       std::shared_ptr<TokenTimes> listener) {
  server::Request request;
  request.prompt = std::move(prompt);
  request.reuse = false;
  request.generation.max_tokens = tokens;
  for (const int32_t end : tokenizer.end_tokens()) {
    request.generation.logit_bias.emplace_back(end, -std::numeric_limits<float>::infinity());
  }
  request.listener = std::move(listener);
  return request;
}

}  // namespace

StreamsTimes restkv_streams(const StreamsJob& job) {
  constexpr size_t kWarmUp = 512;
  ModelOptions as_served = cli::ModelFlags().resolve();
  if (job.rope_scale > 1) {
    as_served.rope_scaling = "linear";
    as_served.rope_factor = job.rope_scale;
  }
  const Model model(job.model, as_served);
  const Tokenizer tokenizer(job.model);
  server::SchedulerOptions options;
  if (job.side == "restkv-full") options.session.compression = default_options("full");
  options.session.compression.budget = job.budget;
  options.session.interval = kInterval;
  options.max_kept = 0;
  options.max_answers = job.prompts.size();
  server::Scheduler scheduler(model, tokenizer, options);

  const Stopwatch warming;
  const auto& first = job.prompts.front();
  const auto warm_up = std::make_shared<TokenTimes>(warming);
  scheduler.submit(greedy(
      tokenizer,
      {first.begin(), first.begin() + static_cast<std::ptrdiff_t>(std::min(kWarmUp, first.size()))},
      2, warm_up));
  warm_up->wait();

  const Stopwatch clock;
  std::vector<std::shared_ptr<TokenTimes>> clients;
  std::vector<server::RequestId> ids;
  // Nobody stops before the last client has its tokens.
  const size_t room = model.config().context_length - first.size();
  for (const auto& prompt : job.prompts) {
    clients.push_back(std::make_shared<TokenTimes>(clock));
    ids.push_back(scheduler.submit(greedy(tokenizer, prompt, room, clients.back())));
  }
  StreamsTimes times;
  double all_begun = 0;
  for (const auto& client : clients) {
    client->wait_for(1);
    times.first_tokens.push_back(client->times().front());
    all_begun = std::max(all_begun, times.first_tokens.back());
  }
  for (const auto& client : clients) {
    const auto begun = client->times();
    const auto before =
        static_cast<size_t>(std::ranges::upper_bound(begun, all_begun) - begun.begin());
    client->wait_for(before + job.decode);
    const auto all = client->times();
    const auto from = std::ranges::upper_bound(all, all_begun);
    if (all.end() - from < static_cast<std::ptrdiff_t>(job.decode)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "the model's context is too short for an answer that waits for all others");
    }
    times.tokens.emplace_back(from, from + static_cast<std::ptrdiff_t>(job.decode));
  }
  times.resident_bytes = resident_bytes();
  for (const server::RequestId id : ids) scheduler.cancel(id);
  return times;
}

}  // namespace restkv::bench
