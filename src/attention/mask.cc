#include "attention/mask.h"

#include <fmt/format.h>

#include "restkv/error.h"

namespace restkv {

void check_mask(std::string_view function, const TileMask& mask, size_t heads, size_t rows,
                size_t first, const AttentionOptions& options) {
  if (mask.data == nullptr) return;
  const auto tiles = [](size_t count) { return (count + kMaskTile - 1) / kMaskTile; };
  if (options.causal && mask.heads == heads && mask.rows >= tiles(rows) &&
      mask.dim >= tiles(first + rows)) {
    return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: the mask [{}, {}, {}] does not fit {} causal queries of {} heads at "
                          "position {}: it must be [{}, >= {}, >= {}]",
                          function, mask.heads, mask.rows, mask.dim, rows, heads, first, heads,
                          tiles(rows), tiles(first + rows)));
}

void check_bias(std::string_view function, const AttentionOptions& options, size_t heads,
                size_t keys) {
  const Matrix<const float>& bias = options.bias;
  if (bias.data == nullptr || (bias.rows == heads && bias.cols >= keys)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: biases are [{}, {}], but there are {} KV heads and {} keys",
                          function, bias.rows, bias.cols, heads, keys));
}

void check_sinks(std::string_view function, const AttentionOptions& options, size_t query_heads) {
  const size_t sinks = options.sink_logits.size();
  if (sinks == 0 || sinks == query_heads) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: there are sinks of {} query heads, but {} query heads", function,
                          sinks, query_heads));
}

}  // namespace restkv
