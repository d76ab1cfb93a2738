// Any options on any numbers: a selection that keeps its promises, or an Error. Fixed seeds.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "restkv/query_statistics.h"
#include "support/own_options.h"

namespace restkv {
namespace {

using Random = std::mt19937;

size_t below(Random& random, size_t end) { return random() % end; }

template <class T>
const T& any_of(Random& random, const std::vector<T>& list) {
  return list[below(random, list.size())];
}

/// Numbers as attention sees them, or as nobody should send them.
std::vector<float> numbers(Random& random, size_t count, int kind) {
  std::vector<float> values(count);
  for (float& x : values) {
    const float unit = static_cast<float>(below(random, 2001)) / 1000.0F - 1.0F;
    switch (kind) {
      case 0:
        x = 0.0F;
        break;
      case 1:
        x = 0.5F;
        break;
      case 2:
        x = unit * 1e-30F;
        break;
      case 3:
        x = unit * 1e18F;
        break;
      case 4:
        x = unit * 30.0F;
        break;
      default:
        x = unit;
        break;
    }
  }
  if (kind == 6 && count > 0) {
    values[below(random, count)] = any_of<float>(
        random, {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                 -std::numeric_limits<float>::infinity()});
  }
  return values;
}

/// Changes up to four options to words of their own lists or to what people mistype.
void change_options(Random& random, CompressionOptions& options) {
  static const std::vector<std::string> kWords = {
      "0",   "1", "2",    "3",           "5",  "7",   "16",   "-1",    "0.5", "1e9",
      "nan", "",  "true", "99999999999", "32", "0.1", "mean", "false", "none"};
  for (size_t i = below(random, 5); i > 0; --i) {
    const CompressionOption& option =
        compression_options()[below(random, compression_options().size())];
    std::string value = any_of(random, kWords);
    if (option.values.find('|') != std::string_view::npos && below(random, 4) != 0) {
      std::vector<std::string> list;
      for (size_t begin = 0; begin <= option.values.size();) {
        const size_t end = std::min(option.values.find('|', begin), option.values.size());
        list.emplace_back(option.values.substr(begin, end - begin));
        begin = end + 1;
      }
      value = any_of(random, list);
    }
    try {
      option.set(options, value);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(option.name), std::string::npos) << error.what();
    }
  }
}

TEST(CompressFuzz, SelectsOrRefuses) {
  size_t selected = 0;
  size_t refused = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    Random random(seed);
    const size_t kv_heads = 1 + below(random, 3);
    const size_t heads = kv_heads * (1 + below(random, 3));
    const size_t dim = any_of<size_t>(random, {2, 8, 16, 20});
    const size_t length = below(random, 150);
    const size_t rows = std::min(length, 40 + below(random, 20));
    const auto kind = [&] {
      return below(random, 8) == 0 ? static_cast<int>(below(random, 7)) : 5;
    };
    const auto queries = numbers(random, heads * rows * dim, kind());
    const auto keys = numbers(random, kv_heads * length * dim, kind());
    const auto values = numbers(random, kv_heads * length * dim, kind());
    const auto wo = numbers(random, 24 * heads * dim, below(random, 10) == 0 ? 0 : 5);
    const auto sums = numbers(random, heads * length, 1);
    const auto outputs = numbers(random, heads * rows * dim, kind());

    CompressionOptions options = methods()[below(random, methods().size())].defaults;
    options.budget = static_cast<int>(below(random, 120));
    options.window = static_cast<int>(below(random, 40));
    testing::set_if_own(options, "chunk_length", static_cast<int>(below(random, 30)));
    testing::set_if_own(options, "lag", 1 + static_cast<int>(below(random, 40)));
    change_options(random, options);
    options.profile.clear();  // files are another test's business

    LayerObservation layer;
    layer.queries = {queries.data(), heads, rows, dim};
    layer.keys = {keys.data(), kv_heads, length, dim};
    layer.values = {values.data(), kv_heads, length, dim};
    layer.unrotated_keys = layer.keys;
    layer.layers = 1 + below(random, 4);
    layer.layer = below(random, layer.layers);
    const OutputFactor factor({wo.data(), 24, heads * dim}, heads, dim);
    layer.output = &factor;
    layer.output_weights = {wo.data(), 24, heads * dim};
    layer.attention_sums = {sums.data(), heads, length};
    layer.watched = layer.attention_sums;
    if (below(random, 3) == 0) {  // all of them or too few to be of use
      const size_t seen = below(random, 2) == 0 ? rows : below(random, rows + 1);
      layer.outputs = {outputs.data(), heads, seen, dim};
    }
    QueryStatistics statistics(heads, dim);
    if (rows > 0) {
      try {
        statistics.add(layer.queries);
      } catch (const Error&) {
        continue;
      }
    }
    MeanRotation rotation;
    rotation.cosine.assign(dim / 2, 0.4F);
    rotation.sine.assign(dim / 2, 0.2F);
    layer.query_statistics = &statistics;
    layer.future_rotation = &rotation;

    SCOPED_TRACE("seed " + std::to_string(seed) + ", method " + options.method + ", allocation " +
                 options.allocation);
    try {
      SelectionTrace trace;
      const Selection selection = select_tokens(layer, options, seed % 2 == 0 ? &trace : nullptr);
      ASSERT_EQ(selection.keep.size(), options.per_query_head ? heads : kv_heads);
      for (const auto& keep : selection.keep) {
        ASSERT_TRUE(std::is_sorted(keep.begin(), keep.end(), std::less_equal<>()));
        if (keep.empty()) continue;
        ASSERT_GE(keep.front(), 0);
        ASSERT_LT(static_cast<size_t>(keep.back()), length);
      }
      ++selected;
    } catch (const Error& error) {
      EXPECT_GT(std::string(error.what()).size(), 10U);
      ++refused;
    }
  }
  // Neither side of the property may become empty.
  EXPECT_GT(selected, 500U);
  EXPECT_GT(refused, 300U);
  std::printf("fuzz: %zu selections, %zu refusals\n", selected, refused);
}

}  // namespace
}  // namespace restkv
