#include <algorithm>
#include <vector>

#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/row_products.h"
#include "restkv/error.h"

namespace restkv {
namespace {

enum class Leverage { kKey, kValue, kMean, kProduct };

void check(const CompressionOptions& options) {
  check_protected(options, "sinks", options.sinks);
  check_blocks(options);
  if (own_whole(options, "local_window") < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "local_window is negative; give the positions per block, or 0 for no blocks");
  }
}

/// Divides every value by the sum of its block of `size` values; 0: one block.
void normalize_blocks(std::span<float> values, size_t size) {
  if (size == 0) size = values.size();
  for (size_t begin = 0; begin < values.size(); begin += size) {
    const auto block = values.subspan(begin, std::min(size, values.size() - begin));
    double sum = 0.0;
    for (const float x : block) sum += double{x};
    if (sum == 0.0) continue;
    for (float& x : block) x = static_cast<float>(double{x} / sum);
  }
}

/// Squared norms of rows as their leverage, within blocks if there is a local window.
std::vector<float> leverage(Matrix<const float> rows, size_t local_window) {
  std::vector<float> result(rows.rows);
  square_norms(rows, result);
  if (local_window > 0) normalize_blocks(result, local_window);
  return result;
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const auto local_window = static_cast<size_t>(own_whole(options, "local_window"));
  const auto whose = static_cast<Leverage>(own_word(options, "leverage"));
  const auto score_head = [&](Matrix<const float> keys, Matrix<const float> values,
                              std::span<float> row) {
    const auto key = leverage(keys, local_window);
    const auto value = leverage(values, local_window);
    for (size_t j = 0; j < row.size(); ++j) {
      switch (whose) {
        case Leverage::kKey:
          row[j] = key[j];
          break;
        case Leverage::kValue:
          row[j] = value[j];
          break;
        case Leverage::kMean:
          row[j] = (key[j] + value[j]) / 2;
          break;
        case Leverage::kProduct:
          row[j] = key[j] * value[j];
          break;
      }
    }
    normalize_blocks(row, 0);
    std::fill_n(row.begin(), std::min(row.size(), static_cast<size_t>(options.sinks)), 1.0F);
  };
  return score_keys_and_values(layer, options, score_head);
}

}  // namespace

Method cur_method() {
  Method method;
  method.name = "cur";
  method.summary = "leverage of keys and values, as in a CUR decomposition";
  method.paper = "CurDKV: Value-Guided KV Compression for LLMs via Approximated CUR Decomposition";
  method.options = {"sinks", "block_size", "per_query_head"};
  method.own_options = {
      {"leverage", "key|value|mean|product", "leverage that counts", "product"},
      {"local_window", "N", "positions per block of normalised leverages; 0: all", 16}};
  method.defaults.method = method.name;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
