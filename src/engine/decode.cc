#include "engine/decode.h"

#include <fmt/format.h>

#include "engine/checks.h"
#include "engine/evict.h"
#include "model/weights.h"
#include "restkv/attention.h"
#include "restkv/engine.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// The fastest product for a few rows, whose results do not depend on the other rows.
constexpr auto kFast = StoredProduct::kRounded;
/// The same without rounding: evaluations are compared with references in float32.
constexpr auto kExact = StoredProduct::kUnpacked;
static_assert(Engine::kMaxBatch < kPrefillGemmMinRows);

/// Computes what belongs to row `r` alone. An error goes to `failures`, if it has room for it, and
/// the other rows go on.
template <class Step>
void for_row(std::span<std::exception_ptr> failures, size_t r, const Step& step) {
  if (failures.empty()) {
    step();
    return;
  }
  if (failures[r] != nullptr) return;
  try {
    step();
  } catch (...) {
    failures[r] = std::current_exception();
  }
}

/// `workspace.observers` has one observer for each row, or none.
Matrix<const float> decode_rows(const Model& model, Workspace& workspace,
                                std::span<const int32_t> tokens, std::span<KvCache* const> caches,
                                StoredProduct product,
                                std::span<std::exception_ptr> failures = {}) {
  const ModelConfig& c = model.config();
  Workspace& w = workspace;
  const size_t rows = tokens.size();
  for (const KvCache* cache : caches) check_length(c, cache->next_position, 1);
  w.positions.resize(rows);
  w.hidden.resize(rows * c.width);
  const Matrix<float> x(w.hidden.data(), rows, c.width);
  embed(model, tokens, x);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    for (size_t r = 0; r < rows; ++r) w.positions[r] = next_position(c, *caches[r], layer);
    const LayerPass pass{.model = model,
                         .layer = layer,
                         .prefill_weights = nullptr,
                         .stored = product,
                         .rope = w.rope_of(c.windows[layer]),
                         .activations = w.activations};
    const auto attend = [&](Heads<const float> q, Heads<const float> k, Heads<const float> v,
                            Heads<float> out) {
      const auto attend_row = [&](size_t r) {
        KvCache& cache = *caches[r];
        TokenObserver* const observer = w.observers.empty() ? nullptr : &w.observers[r];
        if (observer != nullptr) observer->add_query(layer, q.slice_rows(r, 1));
        with_model_path(model, [&] {
          cache.append(layer, across_heads(k, r), across_heads(v, r),
                       static_cast<int32_t>(w.positions[r]));
        });
        // A layer with a sliding window holds the rows of its window only: no mask is needed.
        const auto heads = cache.heads(layer);
        if (observer != nullptr) {
          with_model_path(model, [&] {
            observer->watch(layer, heads, q.slice_rows(r, 1),
                            {w.activations.normed.data() + r * c.width, 1, c.width});
          });
        }
        const Matrix<float> weights =
            observer != nullptr ? observer->weights(layer, heads) : Matrix<float>();
        decode_attention(across_heads(q, r), heads,
                         {.scale = c.attention_scale,
                          .softcap = c.attention_softcap,
                          .sink_logits = model.weights().layers[layer].sink_logits},
                         across_heads(out, r), weights);
        if (observer != nullptr) observer->add_weights(layer, heads, weights);
      };
      for (size_t r = 0; r < rows; ++r) for_row(failures, r, [&] { attend_row(r); });
    };
    run_layer(pass, w.positions, rows, x, attend);
  }
  for (KvCache* cache : caches) ++cache->next_position;
  const auto logits = room(w.logits, rows, c.vocabulary);
  unembed(model, x, product, logits, w.activations);
  for (size_t r = 0; r < rows; ++r) {
    for_row(failures, r, [&] { require_finite(model, logits.row_span(r)); });
  }
  return logits;
}

void check_batch(size_t tokens, size_t caches) {
  if (tokens > 0 && tokens <= Engine::kMaxBatch && caches == tokens) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} tokens for {} caches: 1 to {} can be decoded together, one for "
                          "each cache",
                          tokens, caches, Engine::kMaxBatch));
}

void decode_sequences(const Model& model, Workspace& workspace, std::span<const int32_t> tokens,
                      std::span<Sequence* const> sequences,
                      std::span<std::exception_ptr> failures = {}) {
  Workspace& w = workspace;
  w.observers.clear();
  w.caches.clear();
  for (size_t r = 0; r < sequences.size(); ++r) {
    Sequence* const sequence = sequences[r];
    for_row(failures, r, [&] { renumber_windows(model, w, *sequence, 1); });
    w.observers.emplace_back(model, sequence->options.compression, sequence->layers, w.rope_of(0),
                             sequence->cache.next_position, w.observed);
    w.caches.push_back(&sequence->cache);
  }
  const Matrix<const float> logits = decode_rows(model, w, tokens, w.caches, kFast, failures);
  for (size_t r = 0; r < sequences.size(); ++r) {
    for_row(failures, r, [&] {
      Sequence& sequence = *sequences[r];
      const std::span<const float> row = logits.row_span(r);
      sequence.logits.assign(row.begin(), row.end());
      ++sequence.tokens;
      ++sequence.cached_tokens;
      evict_if_due(model, w, sequence);
    });
  }
}

}  // namespace

void decode(const Model& model, Workspace& workspace, std::span<const int32_t> tokens,
            std::span<Sequence* const> sequences, std::span<std::exception_ptr> failures) {
  check_batch(tokens.size(), sequences.size());
  decode_sequences(model, workspace, tokens, sequences, failures);
}

void decode(const Model& model, Workspace& workspace, int32_t token, Sequence& sequence) {
  Sequence* const sequences[] = {&sequence};
  decode_sequences(model, workspace, {&token, 1}, sequences);
}

Matrix<const float> decode(const Model& model, Workspace& workspace,
                           std::span<const int32_t> tokens, std::span<KvCache* const> caches) {
  check_batch(tokens.size(), caches.size());
  workspace.observers.clear();
  return decode_rows(model, workspace, tokens, caches, kExact);
}

std::span<const float> decode(const Model& model, Workspace& workspace, int32_t token,
                              KvCache& cache) {
  KvCache* const caches[] = {&cache};
  workspace.observers.clear();
  return decode_rows(model, workspace, {&token, 1}, caches, kFast).row_span(0);
}

}  // namespace restkv
