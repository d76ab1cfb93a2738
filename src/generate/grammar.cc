#include "generate/grammar.h"

#include <fmt/format.h>
#include <llama.h>

#include <cmath>
#include <exception>
#include <limits>
#include <span>

#include "generate/gbnf.h"
#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using LlamaSampler = std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)>;

LlamaSampler make_sampler(const llama_vocab* vocab, const GrammarOptions& options) {
  if (!options.lazy) {
    return {llama_sampler_init_grammar(vocab, options.gbnf.c_str(), "root"), llama_sampler_free};
  }
  std::vector<const char*> patterns;
  for (const std::string& pattern : options.trigger_patterns) patterns.push_back(pattern.c_str());
  return {llama_sampler_init_grammar_lazy_patterns(
              vocab, options.gbnf.c_str(), "root", patterns.data(), patterns.size(),
              options.trigger_tokens.data(), options.trigger_tokens.size()),
          llama_sampler_free};
}

class Grammar : public TokenConstraint {
 public:
  Grammar(const Tokenizer& tokenizer, const GrammarOptions& options)
      : tokenizer_(tokenizer), sampler_(nullptr, llama_sampler_free) {
    check_gbnf(options.gbnf);
    capture_ggml_log();
    try {
      sampler_ = make_sampler(llama_model_get_vocab(tokenizer.native()), options);
    } catch (const std::exception& e) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("grammar: {}", e.what()));
    }
    if (sampler_ == nullptr) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("grammar: libllama cannot use it: {}", take_ggml_errors()));
    }
    for (const int32_t token : options.read) Grammar::accept(token);
  }

  bool allows(int32_t token) override {
    llama_token_data one{token, 0.0F, 0.0F};
    mask({&one, 1});
    return one.logit == 0;
  }

  void apply(std::span<float> logits) override {
    constexpr float kForbidden = -std::numeric_limits<float>::infinity();
    candidates_.clear();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] != kForbidden) candidates_.push_back({static_cast<llama_token>(i), 0.0F, 0.0F});
    }
    mask(candidates_);
    for (const llama_token_data& candidate : candidates_) {
      if (candidate.logit != 0) logits[static_cast<size_t>(candidate.id)] = kForbidden;
    }
  }

  void accept(int32_t token) override {
    if (tokenizer_.is_end(token)) return;  // nothing follows
    try {
      llama_sampler_accept(sampler_.get(), token);
    } catch (const std::exception&) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("grammar: the token '{}' does not follow it", tokenizer_.piece(token, true)));
    }
  }

 private:
  void mask(std::span<llama_token_data> candidates) {
    llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(sampler_.get(), &array);
  }

  const Tokenizer& tokenizer_;
  LlamaSampler sampler_;
  std::vector<llama_token_data> candidates_;
};

}  // namespace

std::unique_ptr<TokenConstraint> make_grammar(const Tokenizer& tokenizer,
                                              const GrammarOptions& options) {
  return std::make_unique<Grammar>(tokenizer, options);
}

}  // namespace restkv
