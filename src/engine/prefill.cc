#include "engine/prefill.h"

#include <algorithm>
#include <utility>

#include "engine/checks.h"
#include "model/feed_forward.h"
#include "model/layer_pass.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Prompt tokens per block: enough rows for matrix products at full speed, few enough for
/// activations to stay in or near the cache.
constexpr size_t kBlockTokens = 512;
/// Products of attention in a part of a step, about ten milliseconds.
constexpr size_t kPartProducts = 1UL << 30U;

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

bool Prefill::step(Stride stride) {
  const size_t layers = model_.config().layers;
  if (layer_ == layers) return false;
  do {
    run_part(stride);
  } while (stride == Stride::kBlock && part_ != Part::kProject && part_ != Part::kBeginLayer);
  if (layer_ < layers) return true;
  sink_.finish();
  return false;
}

void Prefill::run_part(Stride stride) {
  switch (part_) {
    case Part::kBeginLayer:
      begin_layer();
      part_ = Part::kProject;
      if (stride == Stride::kPart) return;
      [[fallthrough]];
    case Part::kProject:
      project_block();
      part_ = Part::kAttend;
      return;
    case Part::kAttend:
      if (attend_some(stride)) return;
      observe_block();
      part_ = Part::kFeedForward;
      return;
    case Part::kFeedForward:
      if (block_.outputs > 0) {
        feed_forward(pass(),
                     travelling(block_.first + block_.rows - block_.outputs, block_.outputs));
      }
      leave_block();
      part_ = layer_done() ? Part::kEndLayer : Part::kProject;
      return;
    case Part::kEndLayer:
      end_layer();
      part_ = Part::kBeginLayer;
      return;
  }
}

void Prefill::run(const ProgressCallback& progress) {
  for (bool more = true; more;) {
    more = step();
    if (progress && !progress(done())) {
      throw Error(ErrorCode::kInterrupted, "interrupted while reading the prompt");
    }
  }
}

LayerPass Prefill::pass() {
  return {.model = model_,
          .layer = layer_,
          .prefill_weights = converts_ ? &memory_.weights : nullptr,
          .stored = model_.weights().linear == LinearPrecision::kInt8
                        ? StoredProduct::kFastestRounded
                        : StoredProduct::kFastest,
          .rope = workspace_->rope_of(model_.config().windows[layer_]),
          .activations = memory_.activations};
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

void Prefill::end_layer() {
  memory_.kv.dismiss_guests();
  with_model_path(model_, [&] { sink_.take(layer_, memory_.kv, observer_); });
  first_ = feed_ = fed_ = 0;
  ++layer_;
}

Prefill::Block Prefill::next_block() const {
  if (own_tokens()) {
    const size_t rows = std::min(kBlockTokens, tokens_ - first_);
    const size_t end = first_ + rows;
    return {.first = first_,
            .rows = rows,
            .outputs = std::min(rows, end + outputs_ > tokens_ ? end + outputs_ - tokens_ : 0),
            .position = first_};
  }
  const size_t rows = std::min(kBlockTokens, feeds_[feed_].tokens.size() - fed_first_);
  // Guests stand behind the prompt's tokens in the layer, each feed in the place of the one before.
  return {.first = tokens_ + fed_,
          .rows = rows,
          .outputs = layer_ < last_observed_ || observer_.needs_fed_outputs() ? rows : 0,
          .position = tokens_ + fed_first_};
}

void Prefill::project_block() {
  LayerKv& kv = memory_.kv;
  block_ = next_block();
  Block& b = block_;
  if (!own_tokens()) {
    kv.admit_guests();
    // A sparse pattern holds for the prompt's own tokens.
    for (LayerKv::Part& part : kv.parts()) part.mask = {};
    if (feeds_[feed_].narrow && observed_) hide_context(feeds_[feed_]);
  }
  const LayerPass pass = this->pass();
  b.projections =
      project(pass, std::span(positions_).subspan(b.position, b.rows), travelling(b.first, b.rows));
  b.out = attention_outputs(pass, b.outputs);
  kv.store(b.projections.keys, b.projections.values, b.position);
  if (own_tokens()) {
    if (observed_) b.lse = observer_.lse(b.outputs, b.position + b.rows);
    if (is_sparse_) b.lse = sparse_.begin_block(b.projections.queries, kv, b.position, b.lse);
  } else if (observed_ && b.outputs > 0) {
    b.lse = observer_.fed_lse(b.rows);
  }
}

void Prefill::hide_context(const RepeatFeed& feed) {
  LayerKv& kv = memory_.kv;
  const size_t group = model_.config().query_heads / kv.heads();
  const size_t all_tiles = (kv.rows() + kMaskTile - 1) / kMaskTile;
  context_marks_.assign(kv.parts().size() * all_tiles, 0);
  uint8_t* marks = context_marks_.data();
  for (LayerKv::Part& part : kv.parts()) {
    const size_t prefix = kv.prefix() - part.padding;
    const size_t tiles = (kv.rows() - part.padding + kMaskTile - 1) / kMaskTile;
    const auto show = [&](size_t begin, size_t end) {
      std::fill(marks + begin / kMaskTile, marks + (end + kMaskTile - 1) / kMaskTile, uint8_t{1});
    };
    show(0, 1);
    show(prefix + feed.begin, prefix + feed.end);
    show(prefix + tokens_, kv.rows() - part.padding);
    // One row of tiles for all heads and all rows.
    part.mask = {marks, part.heads * group, (block_.rows + kMaskTile - 1) / kMaskTile, tiles, 0, 0};
    marks += all_tiles;
  }
}

bool Prefill::attend_some(Stride stride) {
  Block& b = block_;
  const ModelConfig& c = model_.config();
  size_t rows = b.outputs - b.attended;
  // A mask is one of the whole block.
  if (stride == Stride::kPart && memory_.kv.parts()[0].mask.data == nullptr) {
    const size_t row_products =
        c.query_heads * (c.key_dim + c.value_dim) * (memory_.kv.prefix() + b.position + b.rows);
    rows = std::min(rows, (kPartProducts / row_products / kMaskTile + 1) * kMaskTile);
  }
  const size_t skipped = b.rows - b.outputs + b.attended;
  Matrix<float> lse = b.lse;
  if (lse.data != nullptr) lse = {lse.data + b.attended, lse.rows, rows, lse.stride};
  if (rows > 0) {
    memory_.kv.attend(b.projections.queries.slice_rows(skipped, rows), b.position + skipped,
                      b.position + b.rows, attention_options(model_, layer_),
                      b.out.slice_rows(b.attended, rows), lse);
  }
  b.attended += rows;
  return b.attended < b.outputs;
}

void Prefill::observe_block() {
  Block& b = block_;
  LayerKv& kv = memory_.kv;
  const Heads<const float> queries = b.projections.queries;
  const Matrix<const float> inputs(memory_.activations.normed.data(), b.rows,
                                   model_.config().width);
  if (own_tokens()) {
    if (is_sparse_) sparse_.end_block(queries, kv, b.position, b.lse);
    if (observed_) {
      observer_.add(queries, b.out, kv, b.position, inputs, layer_);
      sink_.see(layer_, b.position, queries, inputs);
    }
  } else if (observed_) {
    const RepeatFeed& feed = feeds_[feed_];
    observer_.add_fed(queries, b.out, inputs, kv, layer_, fed_first_ + b.rows, feed.begin,
                      feed.end);
  }
  if (b.outputs > 0) add_attention(pass(), travelling(b.first + b.rows - b.outputs, b.outputs));
}

void Prefill::leave_block() {
  if (own_tokens()) {
    first_ += block_.rows;
    return;
  }
  fed_ += block_.rows;
  fed_first_ += block_.rows;
  if (fed_first_ < feeds_[feed_].tokens.size()) return;
  fed_first_ = 0;
  ++feed_;
}

void Prefill::last_logits(std::vector<float>& logits) {
  const ModelConfig& c = model_.config();
  logits.resize(c.vocabulary);
  unembed(model_, hidden().slice(tokens_ - 1, 1), StoredProduct::kRounded,
          {logits.data(), 1, c.vocabulary}, memory_.activations);
  require_finite(model_, logits);
}

void Prefill::logits(size_t first, Matrix<float> logits) {
  unembed(model_, hidden().slice(first, logits.rows), StoredProduct::kFastest, logits,
          memory_.activations);
  require_finite(model_, {logits.data, logits.rows * logits.cols});
}

}  // namespace restkv
