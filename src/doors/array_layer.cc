#include "doors/array_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "compress/finite.h"
#include "doors/refuse.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "restkv/query_statistics.h"

namespace restkv::doors {
namespace {

/// Rows that methods watch at a time, as in prompts.
constexpr size_t kBlock = 512;

/// A rotation that is averaged over positions [first, first + count).
MeanRotation rotation_over(const Rotation& rotation, size_t first, size_t count) {
  MeanRotation result;
  result.halves = rotation.halves;
  for (const float frequency : rotation.frequencies) {
    double cosine = 0;
    double sine = 0;
    for (size_t p = first; p < first + count; ++p) {
      const double angle = static_cast<double>(p) * static_cast<double>(frequency);
      cosine += std::cos(angle);
      sine += std::sin(angle);
    }
    const double factor = rotation.magnitude / static_cast<double>(count);
    result.cosine.push_back(static_cast<float>(factor * cosine));
    result.sine.push_back(static_cast<float>(factor * sine));
  }
  return result;
}

/// Copies of rows before their rotary embedding; row i has the position `first` + i.
AlignedVector<float> rotated_back(Heads<const float> rows, const Rotation& rotation, size_t first) {
  AlignedVector<float> plain(rows.heads * rows.rows * rows.dim);
  // The inverse of m R is R^T / m; the transpose turns by the negative angle.
  const double undo = 1 / (rotation.magnitude * rotation.magnitude);
  for (size_t r = 0; r < rows.rows; ++r) {
    MeanRotation back = rotation_over(rotation, first + r, 1);
    for (float& x : back.cosine) x = static_cast<float>(undo * static_cast<double>(x));
    for (float& x : back.sine) x = static_cast<float>(-undo * static_cast<double>(x));
    for (size_t h = 0; h < rows.heads; ++h) {
      float* to = plain.data() + (h * rows.rows + r) * rows.dim;
      std::copy_n(rows.row(h, r), rows.dim, to);
      back.rotate(to);
    }
  }
  return plain;
}

/// Throws for what no array can give, and what a selection cannot say.
void require_arrays_suffice(const CompressionOptions& options) {
  const auto unsupported = [](const std::string& message) {
    throw Error(ErrorCode::kUnsupported, message);
  };
  if (watched_tokens(options) == WatchedTokens::kRepeat) {
    unsupported(
        fmt::format("method {} lets a model repeat its prompt, and arrays have none; "
                    "choose another, or read the text with a model",
                    options.method));
  }
  // What a method does by default with its values is not asked for here.
  if (options.merge || options.refit != find_method(options.method).defaults.refit) {
    unsupported(
        fmt::format("{} changes values, and a selection only says which are kept; leave "
                    "it out",
                    options.merge ? "merge" : "refit"));
  }
}

/// What an attention reads besides queries and keys, where a method learned from it.
bool needs_inputs(const CompressionOptions& options) {
  return watched_tokens(options) != WatchedTokens::kNone &&
         find_method(options.method).needs_statistics;
}

/// Whether a method reads something of all queries.
bool needs_all_queries(const CompressionOptions& options) {
  return needs_attention_sums(options) || needs_query_statistics(options) ||
         watched_tokens(options) != WatchedTokens::kNone;
}

/// What a method reads beyond the arrays, and their observation.
class Observer {
 public:
  Observer(const ArrayLayer& layer, const CompressionOptions& options)
      : layer_(layer), options_(options), n_(layer.keys.rows) {
    check_shapes();
    observation_.queries = layer.queries;
    observation_.keys = layer.keys;
    observation_.values = layer.values;
    observation_.scale = layer.scale;
    observation_.softcap = layer.softcap;
    observation_.layer = layer.layer;
    observation_.layers = layer.layers;
    if (keeps_whole(options, n_)) return;
    observe_output();
    observe_keys();
    observe_all_queries();
    observe_rotations();
  }

  [[nodiscard]] const LayerObservation& observation() const { return observation_; }

 private:
  void check_shapes() const {
    const Heads<const float>& keys = layer_.keys;
    const Heads<const float>& values = layer_.values;
    const Heads<const float>& queries = layer_.queries;
    if (n_ == 0 || keys.heads == 0 || keys.dim == 0) {
      refuse(fmt::format("keys are [{}, {}, {}]; expected [kv_heads, n, d], none of them 0",
                         keys.heads, keys.rows, keys.dim));
    }
    if (values.heads != keys.heads || values.rows != n_ || values.dim == 0) {
      refuse(
          fmt::format("values are [{}, {}, {}], but keys are [{}, {}, {}]; both have the same "
                      "heads and tokens",
                      values.heads, values.rows, values.dim, keys.heads, keys.rows, keys.dim));
    }
    if (queries.heads % keys.heads != 0 || (queries.heads > 0 && queries.dim != keys.dim) ||
        queries.rows > n_) {
      refuse(
          fmt::format("queries are [{}, {}, {}], but keys are [{}, {}, {}]; expected a multiple "
                      "of the heads, no more tokens and the same head size",
                      queries.heads, queries.rows, queries.dim, keys.heads, keys.rows, keys.dim));
    }
    const auto& wo = layer_.wo;
    if (wo.data != nullptr && queries.heads > 0 && wo.cols != queries.heads * values.dim) {
      refuse(fmt::format("wo is [{}, {}]; expected [width, {}]: {} query heads with {} values each",
                         wo.rows, wo.cols, queries.heads * values.dim, queries.heads, values.dim));
    }
    if (!std::isfinite(layer_.scale) || !std::isfinite(layer_.softcap) || layer_.softcap < 0) {
      refuse(fmt::format("scale is {} and softcap {}; expected finite numbers, 0 for the default",
                         layer_.scale, layer_.softcap));
    }
    if (layer_.layer >= layer_.layers) {
      refuse(fmt::format("layer is {} of {}; expected less", layer_.layer, layer_.layers));
    }
    const Rotation& rotation = layer_.rotation;
    if (rotation.frequencies.size() > keys.dim / 2 || !(rotation.magnitude > 0) ||
        !std::isfinite(rotation.magnitude)) {
      refuse(
          fmt::format("the rotation has {} frequencies and the magnitude {}; expected at most "
                      "{}, half of the head size, and a positive number",
                      rotation.frequencies.size(), rotation.magnitude, keys.dim / 2));
    }
  }

  void require(bool given, std::string_view what) const {
    if (!given) refuse(fmt::format("method {} reads {}; give it", options_.method, what));
  }
  void require_all_queries() const {
    if (layer_.queries.rows == n_) return;
    refuse(fmt::format("method {} reads the queries of all {} tokens, not of the last {}",
                       options_.method, n_, layer_.queries.rows));
  }

  static void require_finite(Heads<const float> rows, std::string_view name) {
    for (size_t h = 0; h < rows.heads; ++h) {
      if (all_finite(rows.head(h))) continue;
      throw Error(
          ErrorCode::kInput,
          fmt::format("{} of head {} hold NaN or infinity; expected finite numbers", name, h));
    }
  }

  void observe_output() {
    if (needs_output_weights(options_)) {
      require(layer_.wo.data != nullptr, "W_O (wo)");
      observation_.output_weights = layer_.wo;
    }
    if (!needs_output_factor(options_)) return;
    require(layer_.wo.data != nullptr || layer_.factor != nullptr, "W_O (wo)");
    if (layer_.factor != nullptr) {
      if (layer_.factor->heads() != layer_.queries.heads ||
          layer_.factor->head_dim() != layer_.values.dim) {
        refuse(fmt::format("the factor of W_O is for {} query heads of size {}, not {} of {}",
                           layer_.factor->heads(), layer_.factor->head_dim(), layer_.queries.heads,
                           layer_.values.dim));
      }
      observation_.output = layer_.factor;
      return;
    }
    require(layer_.queries.heads > 0, "queries");
    factor_.emplace(layer_.wo, layer_.queries.heads, layer_.values.dim);
    observation_.output = &*factor_;
  }

  void observe_keys() {
    if (!needs_unrotated_keys(options_)) return;
    observation_.unrotated_keys = layer_.unrotated_keys;
    if (layer_.unrotated_keys.data != nullptr) return;
    require(!layer_.rotation.frequencies.empty(),
            "keys before rotary embedding (unrotated_keys, or the rotation's frequencies)");
    plain_keys_ = rotated_back(layer_.keys, layer_.rotation, 0);
    observation_.unrotated_keys = {plain_keys_.data(), layer_.keys.heads, n_, layer_.keys.dim};
  }

  void observe_all_queries() {
    const WatchedTokens watched = watched_tokens(options_);
    const bool sums = needs_attention_sums(options_);
    const bool outputs = watched != WatchedTokens::kNone && watches_outputs(options_);
    if (!needs_all_queries(options_)) return;
    require_all_queries();
    // Softmax over many rows may pass over a single NaN.
    require_finite(layer_.queries, "queries");
    require_finite(layer_.keys, "keys");
    if (sums || outputs) attend(sums);
    if (watched != WatchedTokens::kNone) watch(outputs);
    if (needs_query_statistics(options_)) count_queries();
  }

  void attend(bool sums) {
    const size_t heads = layer_.queries.heads;
    const AttentionOptions attention{.scale = layer_.scale, .softcap = layer_.softcap};
    lse_.resize(heads * n_);
    outputs_.resize(heads * n_ * layer_.values.dim);
    const Matrix<float> lse(lse_.data(), heads, n_);
    prefill_attention(layer_.queries, layer_.keys, layer_.values, 0, attention,
                      {outputs_.data(), heads, n_, layer_.values.dim}, lse);
    if (!sums) return;
    sums_.assign(heads * n_, 0.0F);
    const Matrix<float> all(sums_.data(), heads, n_);
    attention_sums(layer_.queries, layer_.keys, 0, attention, lse, all);
    observation_.attention_sums = all;
  }

  void watch(bool outputs) {
    const size_t heads = layer_.queries.heads;
    watched_.assign(heads * n_, std::numeric_limits<float>::quiet_NaN());
    const Matrix<float> watched(watched_.data(), heads, n_);
    for (size_t begin = 0; begin < n_; begin += kBlock) {
      const size_t rows = std::min(kBlock, n_ - begin);
      BlockObservation block;
      block.queries = layer_.queries.slice_rows(begin, rows);
      if (layer_.inputs.data != nullptr) block.inputs = layer_.inputs.slice(begin, rows);
      block.own_keys = layer_.keys.slice_rows(begin, rows);
      block.own_values = layer_.values.slice_rows(begin, rows);
      block.keys = layer_.keys.slice_rows(0, begin + rows);
      block.values = layer_.values.slice_rows(0, begin + rows);
      if (outputs) {
        block.lse = {lse_.data() + begin, heads, rows, n_};
        block.outputs = Heads<const float>(outputs_.data(), heads, n_, layer_.values.dim)
                            .slice_rows(begin, rows);
      }
      block.begin = begin;
      block.end = begin + rows;
      block.scale = layer_.scale;
      block.softcap = layer_.softcap;
      block.output = observation_.output;
      block.layer = layer_.layer;
      block.query_heads = heads;
      find_method(options_.method).watch(block, options_, watched);
    }
    observation_.watched = watched;
  }

  void count_queries() {
    require(!layer_.rotation.frequencies.empty(), "the rotation's frequencies");
    statistics_ = QueryStatistics(layer_.queries.heads, layer_.queries.dim);
    for (size_t begin = std::min(n_, static_cast<size_t>(options_.sinks)); begin < n_;) {
      const size_t rows = std::min(kBlock, n_ - begin);
      const AlignedVector<float> plain =
          rotated_back(layer_.queries.slice_rows(begin, rows), layer_.rotation, begin);
      statistics_.add({plain.data(), layer_.queries.heads, rows, layer_.queries.dim});
      begin += rows;
    }
    future_ = rotation_over(layer_.rotation, n_, future_positions(options_));
    observation_.query_statistics = &statistics_;
    observation_.future_rotation = &future_;
  }

  void observe_rotations() {
    const std::vector<size_t> offsets = rotation_offsets(options_);
    if (offsets.empty()) return;
    require(!layer_.rotation.frequencies.empty(), "the rotation's frequencies");
    for (const size_t offset : offsets) {
      rotations_.push_back(rotation_over(layer_.rotation, n_ + offset, 1));
    }
    observation_.rotations = rotations_;
  }

  const ArrayLayer& layer_;
  const CompressionOptions& options_;
  size_t n_;
  LayerObservation observation_;
  std::optional<OutputFactor> factor_;
  AlignedVector<float> plain_keys_, lse_, outputs_;
  std::vector<float> sums_, watched_;
  QueryStatistics statistics_;
  MeanRotation future_;
  std::vector<MeanRotation> rotations_;
};

}  // namespace

ArrayNeeds array_needs(const CompressionOptions& options, size_t n) {
  require_arrays_suffice(options);
  if (keeps_whole(options, n)) return {};
  ArrayNeeds needs;
  needs.queries = needs_all_queries(options) ? n : std::min(n, observed_queries(options));
  // Some read no queries but how many heads there are.
  if (options.per_query_head || needs_output_weights(options) || needs_output_factor(options)) {
    needs.queries = std::max<size_t>(needs.queries, 1);
  }
  needs.wo = needs_output_weights(options);
  needs.factor = needs_output_factor(options);
  needs.rotation = needs_query_statistics(options) || needs_unrotated_keys(options) ||
                   !rotation_offsets(options).empty();
  if (!rotation_offsets(options).empty()) needs.queries = std::max<size_t>(needs.queries, 1);
  needs.inputs = needs_inputs(options);
  return needs;
}

Selection select_from_arrays(const ArrayLayer& layer, const CompressionOptions& options) {
  validate(options);
  require_arrays_suffice(options);
  if (needs_inputs(options) && layer.inputs.data == nullptr) {
    refuse(fmt::format("method {} reads what the layer's attention reads; give inputs",
                       options.method));
  }
  const Observer observer(layer, options);
  return select_tokens(observer.observation(), options);
}

}  // namespace restkv::doors
