#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "base/stopwatch.h"
#include "base/system.h"
#include "llama_side.h"
#include "model/ggml_log.h"
#include "restkv/error.h"
#include "serving/streams.h"

namespace restkv::bench {
namespace {

struct Client {
  std::span<const int32_t> prompt;
  size_t read = 0;      ///< Tokens of the prompt.
  size_t position = 0;  ///< Of the next token.
  int32_t next = 0;     ///< Token to be fed.
  std::vector<double> times;

  [[nodiscard]] bool writes() const { return read == prompt.size(); }
};

/// Batches of up to `kLlamaBatch` tokens of several sequences.
class BatchedLlama {
 public:
  BatchedLlama(const StreamsJob& job, bool flash_attention);
  ~BatchedLlama() { llama_batch_free(batch_); }
  BatchedLlama(const BatchedLlama&) = delete;
  BatchedLlama& operator=(const BatchedLlama&) = delete;

  /// One step of the loop; at its end every client that has an output gets its next token.
  void step(std::vector<Client>& clients, const Stopwatch& clock);
  void forget() { llama_memory_clear(llama_get_memory(context_.get()), false); }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: libllama cannot {}: {}", model_path_, what, take_ggml_errors()));
  }
  void add(int32_t token, size_t position, size_t client, bool wants_logits) {
    const auto i = static_cast<size_t>(batch_.n_tokens++);
    batch_.token[i] = token;
    batch_.pos[i] = static_cast<llama_pos>(position);
    batch_.n_seq_id[i] = 1;
    batch_.seq_id[i][0] = static_cast<llama_seq_id>(client);
    batch_.logits[i] = wants_logits ? 1 : 0;
  }

  std::string model_path_;
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model_{nullptr, llama_model_free};
  std::unique_ptr<llama_context, decltype(&llama_free)> context_{nullptr, llama_free};
  llama_batch batch_{};
  size_t vocabulary_ = 0;
};

BatchedLlama::BatchedLlama(const StreamsJob& job, bool flash_attention) : model_path_(job.model) {
  capture_ggml_log();
  model_.reset(llama_model_load_from_file(job.model.c_str(), llama_model_default_params()));
  if (model_ == nullptr) fail("load it");
  const size_t clients = job.prompts.size();
  // While the last prompts are read, the first clients write a token with each batch.
  const size_t all = clients * job.prompts.front().size();
  const size_t rows = job.prompts.front().size() + job.decode + 2 * (all / kLlamaBatch + clients);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(clients * rows);
  params.n_seq_max = static_cast<uint32_t>(clients);
  params.n_batch = kLlamaBatch;
  params.n_ubatch = kLlamaUbatch;
  params.n_outputs_max = static_cast<uint32_t>(clients);
  params.n_threads = params.n_threads_batch = job.threads;
  params.kv_unified = false;  // libllama's advice where sequences share no beginning
  params.flash_attn_type =
      flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  if (job.rope_scale > 1) {
    params.rope_scaling_type = LLAMA_ROPE_SCALING_TYPE_LINEAR;
    params.rope_freq_scale = static_cast<float>(1 / job.rope_scale);
  }
  context_.reset(llama_init_from_model(model_.get(), params));
  if (context_ == nullptr) fail(fmt::format("serve {} clients", clients));
  batch_ = llama_batch_init(kLlamaBatch, 0, 1);
  vocabulary_ = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
}

void BatchedLlama::step(std::vector<Client>& clients, const Stopwatch& clock) {
  struct Output {
    size_t client;
    int32_t row;
  };
  std::vector<Output> outputs;
  batch_.n_tokens = 0;
  for (size_t i = 0; i < clients.size(); ++i) {
    if (!clients[i].writes()) continue;
    outputs.push_back({i, batch_.n_tokens});
    add(clients[i].next, clients[i].position++, i, true);
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    Client& client = clients[i];
    while (!client.writes() && batch_.n_tokens < static_cast<int32_t>(kLlamaBatch)) {
      const bool last = client.read + 1 == client.prompt.size();
      if (last) outputs.push_back({i, batch_.n_tokens});
      add(client.prompt[client.read++], client.position++, i, last);
      if (last) break;
    }
  }
  if (const int code = llama_decode(context_.get(), batch_); code != 0) {
    fail(fmt::format("compute {} tokens (code {})", batch_.n_tokens, code));
  }
  for (const Output& output : outputs) {
    const std::span<const float> logits(llama_get_logits_ith(context_.get(), output.row),
                                        vocabulary_);
    Client& client = clients[output.client];
    client.next = static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
    client.times.push_back(clock.seconds());
  }
}

}  // namespace

StreamsTimes llama_streams(const StreamsJob& job, bool flash_attention) {
  constexpr size_t kWarmUp = 512;
  BatchedLlama llama(job, flash_attention);
  std::vector<Client> warm_up(1);
  const auto& first = job.prompts.front();
  warm_up[0].prompt = std::span(first).first(std::min(kWarmUp, first.size()));
  const Stopwatch warming;
  while (warm_up[0].times.size() < 2) llama.step(warm_up, warming);
  llama.forget();

  std::vector<Client> clients(job.prompts.size());
  for (size_t i = 0; i < clients.size(); ++i) clients[i].prompt = job.prompts[i];
  const Stopwatch clock;
  while (!std::ranges::all_of(clients, &Client::writes)) llama.step(clients, clock);
  std::vector<size_t> before;
  for (const Client& client : clients) before.push_back(client.times.size());
  for (size_t i = 0; i < job.decode; ++i) llama.step(clients, clock);

  StreamsTimes times;
  times.resident_bytes = resident_bytes();
  for (size_t i = 0; i < clients.size(); ++i) {
    times.first_tokens.push_back(clients[i].times.front());
    times.tokens.emplace_back(clients[i].times.begin() + static_cast<std::ptrdiff_t>(before[i]),
                              clients[i].times.end());
  }
  return times;
}

}  // namespace restkv::bench
