#include "engine/prefill.h"

#include <algorithm>
#include <utility>

#include "engine/checks.h"
#include "model/layer_pass.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Prompt tokens per block: enough rows for matrix products at full speed, few enough for
/// activations to stay in or near the cache.
constexpr size_t kBlockTokens = 512;

/// Position of the first of n new tokens. Throws if they do not fit the context.
size_t begin_of(const ModelConfig& config, const KvCache* cache, size_t n) {
  const size_t position = cache != nullptr ? cache->next_position : 0;
  check_length(config, position, n);
  return position;
}

}  // namespace

Prefill::Prefill(const Model& model, Workspace& workspace, std::span<const int32_t> tokens,
                 LayerSink& sink, SparsePrefill& sparse, size_t output_rows)
    : model_(model),
      workspace_(&workspace),
      sink_(sink),
      sparse_(sparse),
      tokens_(tokens.size()),
      output_rows_(output_rows),
      converts_(tokens.size() >= model.weights().prefill_gemm_min_rows),
      begin_(begin_of(model.config(), sink.cache(), tokens.size())),
      positions_(consecutive(begin_, tokens.size())),
      observer_(model, sink.observed_for(), tokens.size(), workspace.rope_of(0), begin_,
                sink.cache() != nullptr) {
  const ModelConfig& c = model.config();
  if (observer_.needs_repeat() && c.global_layers() > 0) feeds_ = sink.feeds(tokens);
  for (const RepeatFeed& feed : feeds_) {
    longest_feed_ = std::max(longest_feed_, feed.tokens.size());
    fed_tokens_ += feed.tokens.size();
  }
  observer_.expect_fed(fed_tokens_);
  check_repeat_length(c, begin_ + tokens_, longest_feed_);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (c.windows[layer] == 0) last_observed_ = layer;
  }
  memory_ = std::exchange(workspace_->prefill, {});
  memory_.hidden.resize((tokens_ + fed_tokens_) * c.width);
  float* to = memory_.hidden.data();
  const auto embed_next = [&](std::span<const int32_t> some) {
    embed(model, some, {to, some.size(), c.width});
    to += some.size() * c.width;
  };
  embed_next(tokens);
  for (const RepeatFeed& feed : feeds_) embed_next(feed.tokens);
}

Prefill::~Prefill() {
  if (workspace_ == nullptr) return;
  // Memory that grows with the prompt is freed: prompts are rare. `= {}` would keep its capacity.
  memory_.hidden = AlignedVector<float>();
  memory_.kv.release();
  workspace_->prefill = std::move(memory_);
}

void Prefill::work_in(Workspace* workspace) {
  workspace_ = workspace;
  if (workspace != nullptr) observer_.work_with(workspace->rope_of(0));
}

double Prefill::done() const {
  const double of_layer =
      static_cast<double>(first_ + fed_) / static_cast<double>(tokens_ + fed_tokens_);
  return (static_cast<double>(layer_) + of_layer) / static_cast<double>(model_.config().layers);
}

bool Prefill::step() {
  if (layer_ == model_.config().layers) return false;
  if (first_ == 0) begin_layer();
  if (first_ < tokens_) {
    run_block();
  } else {
    run_fed_block();
  }
  if (!layer_done()) return true;
  memory_.kv.dismiss_guests();
  with_model_path(model_, [&] { sink_.take(layer_, memory_.kv, observer_); });
  first_ = feed_ = fed_ = 0;
  if (++layer_ < model_.config().layers) return true;
  sink_.finish();
  return false;
}

void Prefill::run(const ProgressCallback& progress) {
  for (bool more = true; more;) {
    more = step();
    if (progress && !progress(done())) {
      throw Error(ErrorCode::kInterrupted, "interrupted while reading the prompt");
    }
  }
}

Matrix<const float> Prefill::attention_inputs(size_t rows) const {
  return {workspace_->activations.normed.data(), rows, model_.config().width};
}

LayerPass Prefill::pass() {
  return {.model = model_,
          .layer = layer_,
          .prefill_weights = converts_ ? &memory_.weights : nullptr,
          .stored = model_.weights().linear == LinearPrecision::kInt8
                        ? StoredProduct::kFastestRounded
                        : StoredProduct::kFastest,
          .rope = workspace_->rope_of(model_.config().windows[layer_]),
          .activations = workspace_->activations};
}

void Prefill::begin_layer() {
  const ModelConfig& c = model_.config();
  if (converts_) memory_.weights.make(model_.weights().layers[layer_], model_.weights().linear);
  const KvCache* before = sink_.cache();
  const size_t begin = before != nullptr ? next_position(c, *before, layer_) : 0;
  const size_t guests = feeds_pass() ? longest_feed_ : 0;
  if (positions_.front() != begin || positions_.size() < tokens_ + guests) {
    positions_ = consecutive(begin, tokens_ + longest_feed_);
  }
  workspace_->rope_of(c.windows[layer_]).grow(begin + tokens_ + guests);
  memory_.kv.begin(c, before, layer_, tokens_, begin, guests);
  observed_ = c.windows[layer_] == 0;
  if (observed_) {
    observer_.begin_layer(memory_.kv.rows(), memory_.kv.prefix(), sink_.state(layer_));
  }
  // The last layer's outputs matter only for tokens whose logits are computed.
  const bool all_rows = layer_ + 1 < c.layers || (observed_ && observer_.needs_all_rows());
  outputs_ = all_rows ? tokens_ : output_rows_;
  is_sparse_ = observed_ && converts_ && outputs_ == tokens_ &&
               sparse_.begin_layer(layer_, attention_options(model_, layer_), tokens_,
                                   observer_.observed_rows(), memory_.kv);
  if (is_sparse_ && sparse_.looks_ahead()) look_ahead();
}

void Prefill::look_ahead() {
  const LayerPass pass = this->pass();
  const std::span<const size_t> positions(positions_);
  for (size_t first = 0; first < tokens_; first += kBlockTokens) {
    const size_t rows = std::min(kBlockTokens, tokens_ - first);
    memory_.kv.store_keys(
        layer_keys(pass, positions.subspan(first, rows), hidden().slice(first, rows)), first);
  }
  const size_t rows = std::min(kMaskTile, tokens_);
  const size_t first = tokens_ - rows;
  sparse_.look_ahead(
      layer_queries(pass, positions.subspan(first, rows), hidden().slice(first, rows)), memory_.kv);
}

void Prefill::run_block() {
  LayerKv& kv = memory_.kv;
  const size_t first = first_;
  const size_t rows = std::min(kBlockTokens, tokens_ - first);
  const size_t end = first + rows;
  const size_t width = model_.config().width;
  run_layer(
      pass(), std::span(positions_).subspan(first, rows),
      std::min(rows, end + outputs_ > tokens_ ? end + outputs_ - tokens_ : 0),
      {memory_.hidden.data() + first * width, rows, width},
      [&](Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> out) {
        kv.store(k, v, first);
        const size_t skipped = q.rows - out.rows;
        Matrix<float> lse = observed_ ? observer_.lse(out.rows, end) : Matrix<float>();
        if (is_sparse_) lse = sparse_.begin_block(q, kv, first, lse);
        kv.attend(q.slice_rows(skipped, out.rows), first + skipped,
                  attention_options(model_, layer_), out, lse);
        if (is_sparse_) sparse_.end_block(q, kv, first, lse);
        if (observed_) observer_.add(q, out, kv, first, attention_inputs(rows), layer_);
      });
  first_ = end;
}

void Prefill::run_fed_block() {
  LayerKv& kv = memory_.kv;
  kv.admit_guests();
  // A sparse pattern holds for the prompt's own tokens.
  for (LayerKv::Part& part : kv.parts()) part.mask = {};
  const RepeatFeed& feed = feeds_[feed_];
  const size_t first = fed_first_;
  const size_t rows = std::min(kBlockTokens, feed.tokens.size() - first);
  const size_t width = model_.config().width;
  // Guests stand behind the prompt's tokens in the layer, each feed in the place of the one before.
  run_layer(
      pass(), std::span(positions_).subspan(tokens_ + first, rows),
      layer_ < last_observed_ || observer_.needs_fed_outputs() ? rows : 0,
      {memory_.hidden.data() + (tokens_ + fed_) * width, rows, width},
      [&](Heads<const float> q, Heads<const float> k, Heads<const float> v, Heads<float> out) {
        kv.store(k, v, tokens_ + first);
        if (out.rows > 0) {
          kv.attend(q, tokens_ + first, attention_options(model_, layer_), out,
                    observed_ ? observer_.fed_lse(rows) : Matrix<float>());
        }
        if (observed_) {
          observer_.add_fed(q, out, attention_inputs(rows), kv, layer_, first + rows, feed.begin,
                            feed.end);
        }
      });
  fed_ += rows;
  fed_first_ += rows;
  if (fed_first_ < feed.tokens.size()) return;
  fed_first_ = 0;
  ++feed_;
}

void Prefill::last_logits(std::vector<float>& logits) {
  const ModelConfig& c = model_.config();
  logits.resize(c.vocabulary);
  unembed(model_, hidden().slice(tokens_ - 1, 1), StoredProduct::kRounded,
          {logits.data(), 1, c.vocabulary}, workspace_->activations);
  require_finite(model_, logits);
}

void Prefill::logits(size_t first, Matrix<float> logits) {
  unembed(model_, hidden().slice(first, logits.rows), StoredProduct::kFastest, logits,
          workspace_->activations);
  require_finite(model_, {logits.data, logits.rows * logits.cols});
}

}  // namespace restkv
