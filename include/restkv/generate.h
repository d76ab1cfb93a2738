#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "restkv/sampler.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

/// From logits to a text: sampling, where the text ends, and handing it out while it is written.
namespace restkv {

/// What may be said next: a grammar, for instance.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  /// Sets the logits [V] of tokens that may not follow to minus infinity; some token is left.
  virtual void apply(std::span<float> logits) = 0;
  /// Whether this token may follow, which is quicker to say than for all. False may also mean that
  /// only `apply` knows.
  virtual bool allows(int32_t /*token*/) { return false; }
  /// This token follows.
  virtual void accept(int32_t token) = 0;
};

struct GenerationOptions {
  size_t max_tokens = 256;
  size_t min_tokens = 0;          ///< No end is allowed earlier.
  std::vector<std::string> stop;  ///< The text ends before the first of these.
  /// The text ends with the first of these tokens, which is part of it.
  std::vector<int32_t> last_tokens;
  SamplingOptions sampling;
  /// Added to the logits of tokens. Minus infinity forbids one.
  std::vector<std::pair<int32_t, float>> logit_bias;
  /// Control tokens whose texts are part of what is written; others are left out of it.
  std::vector<int32_t> written_tokens;
  TokenConstraint* constraint = nullptr;  ///< Must outlive the generation; null: none.
  /// Records the log-probability of every token, and so many of the likeliest ones beside it.
  std::optional<size_t> logprobs;
  /// Gets the text as it is written, in whole UTF-8 characters, and nothing that a stop may still
  /// take back; returning false ends it.
  std::function<bool(std::string_view text)> on_text;
};

/// Throws `Error` (kInvalidArgument) naming an option that cannot be used with a vocabulary of this
/// size.
void validate(const GenerationOptions& options, size_t vocabulary);

enum class FinishReason {
  kStop,       ///< The model ended it, or a stop or last token came.
  kLength,     ///< `max_tokens`.
  kCancelled,  ///< `on_text` returned false.
};

/// Logarithms of probabilities as the model gives them, before anything is forbidden, favoured or
/// sampled.
struct TokenLogprob {
  int32_t token = 0;
  double logprob = 0;
  std::vector<std::pair<int32_t, double>> likeliest;  ///< In descending order.
};

struct GenerationResult {
  std::string text;             ///< UTF-8.
  std::string bytes;            ///< The same as the model wrote it: perhaps no UTF-8 at the end.
  std::vector<int32_t> tokens;  ///< Without an end token.
  std::vector<TokenLogprob> logprobs;  ///< One for each token, if wanted.
  FinishReason finish_reason = FinishReason::kStop;
  /// The last token ended the text by itself: nothing needed to be appended to the cache for it.
  bool last_token_is_pending = false;
  double seconds = 0;  ///< Decoding only, without the prompt.
  size_t steps = 0;    ///< Decoding steps timed in `seconds`.

  [[nodiscard]] double tokens_per_second() const {
    return seconds > 0 ? static_cast<double>(steps) / seconds : 0.0;
  }
};

/// Who says how a sequence goes on.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  /// The next token, to be appended to the sequence whose last logits [V] are `logits`; none at the
  /// end.
  virtual std::optional<int32_t> next(std::span<const float> logits) = 0;
};

/// A text being written, whoever decodes its tokens.
class Generation : public TokenSource {
 public:
  /// `tokenizer` must outlive it, and so must `sampler`: one that has sampled before goes on with
  /// what it remembers. Without it, `options.sampling` make a new one. Throws as `validate` does.
  Generation(const Tokenizer& tokenizer, GenerationOptions options, Sampler* sampler = nullptr);
  ~Generation() override;
  Generation(Generation&&) noexcept;
  Generation& operator=(Generation&&) noexcept;

  /// Throws `Error` (kInvalidArgument) if biases, `min_tokens` and the constraint forbid all
  /// tokens.
  std::optional<int32_t> next(std::span<const float> logits) override;
  /// What has been written so far; complete after the end.
  [[nodiscard]] const GenerationResult& result() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Appends a token to whatever is being continued and returns the logits [V] after it.
using DecodeToken = std::function<std::span<const float>(int32_t token)>;

/// Writes a text after a prompt whose last logits are `logits`.
GenerationResult generate(const DecodeToken& decode, std::span<const float> logits,
                          const Tokenizer& tokenizer, const GenerationOptions& options,
                          Sampler* sampler = nullptr);
/// The same after what a session has read.
GenerationResult generate(Session& session, const Tokenizer& tokenizer,
                          const GenerationOptions& options, Sampler* sampler = nullptr);

}  // namespace restkv
