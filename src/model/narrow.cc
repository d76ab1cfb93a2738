#include "model/narrow.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "restkv/error.h"

namespace restkv {
namespace {

size_t block_of(const Weight& weight) { return static_cast<size_t>(ggml_blck_size(weight.type)); }

/// Outputs `ranges` of the stacked weights, one range after another.
Linear rows_of(const Linear& all, std::span<const Range> ranges) {
  std::vector<Weight> parts;
  std::vector<float> bias;
  for (const Range& wanted : ranges) {
    Range rows;  // of the part among all
    for (const Weight& part : all.parts()) {
      rows = {rows.end(), part.rows};
      const size_t begin = std::max(wanted.begin, rows.begin);
      const size_t end = std::min(wanted.end(), rows.end());
      if (begin >= end) continue;
      Weight& some = parts.emplace_back(part);
      some.data = part.row(begin - rows.begin);
      some.rows = end - begin;
    }
    if (all.bias().empty()) continue;
    const auto some = all.bias().subspan(wanted.begin, wanted.count);
    bias.insert(bias.end(), some.begin(), some.end());
  }
  return Linear(std::move(parts), std::move(bias));
}

/// Inputs `wanted` of the weights; `has_bias`: of the bias this process has all, or else nothing.
Linear columns_of(const Linear& all, Range wanted, bool has_bias) {
  std::vector<Weight> parts = all.parts();
  for (Weight& part : parts) {
    part.stride = part.row_stride();
    part.data = static_cast<const char*>(part.data) +
                ggml_row_size(part.type, static_cast<int64_t>(wanted.begin));
    part.cols = wanted.count;
  }
  std::vector<float> bias;
  if (has_bias) bias.assign(all.bias().begin(), all.bias().end());
  return Linear(std::move(parts), std::move(bias));
}

class Narrowing {
 public:
  Narrowing(const ModelWeights& weights, const ModelConfig& config, const Communicator& all)
      : path_(weights.file.path()), c_(config), rank_(all.rank()), ranks_(all.size()) {
    if (ranks_ > c_.kv_heads)
      refuse_ranks(fmt::format("{} KV head{}", c_.kv_heads, c_.kv_heads == 1 ? "" : "s"),
                   c_.kv_heads);
  }

  [[nodiscard]] Range kv_heads() const { return share(c_.kv_heads, 1, rank_, ranks_); }
  [[nodiscard]] Range query_heads() const {
    const size_t group = c_.query_heads / c_.kv_heads;
    return {kv_heads().begin * group, kv_heads().count * group};
  }

  void narrow(LayerWeights& w) const {
    const Range g = kv_heads();
    const Range h = query_heads();
    const size_t queries = c_.query_heads * c_.key_dim;
    const size_t keys = c_.kv_heads * c_.key_dim;
    if (!w.query_norm.empty() && w.query_norm.size() != c_.key_dim) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: norms all heads of a token together, which processes that share "
                              "the heads cannot do yet; run it as one process",
                              path_));
    }
    const auto of_heads = [](size_t before, Range heads, size_t dim) {
      return Range{before + heads.begin * dim, heads.count * dim};
    };
    w.qkv = rows_of(w.qkv, std::array{of_heads(0, h, c_.key_dim), of_heads(queries, g, c_.key_dim),
                                      of_heads(queries + keys, g, c_.value_dim)});
    const Range columns = of_heads(0, h, c_.value_dim);
    for (const Weight& part : w.output.parts()) require_blocks(part, columns);
    w.output = columns_of(w.output, columns, rank_ == 0);
    if (!w.sink_logits.empty()) {
      const auto first = w.sink_logits.begin() + static_cast<ptrdiff_t>(h.begin);
      w.sink_logits = std::vector<float>(first, first + static_cast<ptrdiff_t>(h.count));
    }
    if (w.gate_up.rows() > 0) narrow_network(w.gate_up, w.down);
    if (!w.experts) return;
    for (size_t e = 0; e < w.experts->down.size(); ++e) {
      narrow_network(w.experts->gate_up[e], w.experts->down[e]);
    }
  }

  [[nodiscard]] Linear narrowed_table(const Linear& table) const {
    return rows_of(table, std::array{share(table.rows(), 1, rank_, ranks_)});
  }

 private:
  /// The networks are shared by whole blocks of the quantised rows of `down`.
  void narrow_network(Linear& gate_up, Linear& down) const {
    const size_t width = down.cols();
    const size_t block = block_of(down.parts().front());
    const size_t blocks = (width + block - 1) / block;
    if (ranks_ > blocks) {
      refuse_ranks(fmt::format("{} block{} of {} feed-forward channels", blocks,
                               blocks == 1 ? "" : "s", block),
                   std::min(blocks, c_.kv_heads));
    }
    const Range own = share(width, block, rank_, ranks_);
    gate_up = rows_of(gate_up, std::array{own, Range{width + own.begin, own.count}});
    down = columns_of(down, own, rank_ == 0);
  }

  void require_blocks(const Weight& output, Range columns) const {
    const size_t block = block_of(output);
    if (columns.begin % block == 0 && columns.count % block == 0) return;
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: stores the output projection in blocks of {} channels ({}), but "
                    "heads {} to {} of rank {} have the channels {} to {}; take the model "
                    "in Q4_0, Q8_0 or another type with smaller blocks, or another number "
                    "of processes than {}",
                    path_, block, ggml_type_name(output.type), query_heads().begin,
                    query_heads().end() - 1, rank_, columns.begin, columns.end() - 1, ranks_));
  }

  [[noreturn]] void refuse_ranks(const std::string& have, size_t most) const {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: has {}, too few for {} processes; start {} at most", path_, have,
                            ranks_, most));
  }

  const std::string& path_;
  const ModelConfig& c_;
  size_t rank_;
  size_t ranks_;
};

}  // namespace

void narrow(ModelWeights& weights, ModelConfig& config, Communicator& communicator) {
  weights.communicator = &communicator;
  if (communicator.size() == 1) return;
  const Narrowing own(weights, config, communicator);
  for (LayerWeights& layer : weights.layers) own.narrow(layer);
  weights.lm_head = own.narrowed_table(weights.lm_head);
  const size_t kv_heads = own.kv_heads().count;
  config.query_heads = own.query_heads().count;
  config.kv_heads = kv_heads;
  const LayerWeights& layer = weights.layers.front();
  config.ffn_width = layer.down.cols();
  if (layer.experts) config.experts.width = layer.experts->down.front().cols();
}

}  // namespace restkv
