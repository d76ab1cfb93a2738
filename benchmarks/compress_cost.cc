// Cost of each method per layer: a table over head shapes and prompt lengths with the ratios to
// SnapKV and to the layer's prefill, all measured in one run. It also shows the cost of the factors
// of W_O for ReST-KV, once per model and layer. Products with weights are estimated from the
// float32 rate, so shares of the prefill are given for f32 only.
//
// "during" is what a method does while a prompt passes the layer. Methods that let the model repeat
// the prompt are left out: their cost is that of reading it again.
//
// Usage: compress_cost [threads] [longest prompt] [precision: f32, bf16, int8, or auto as prompts]
//                      [methods, separated by commas]

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/threads.h"
#include "bench/machine.h"
#include "compress/calibration.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/query_statistics.h"

namespace {

using restkv::AlignedVector;
using restkv::AttentionPrecision;
using restkv::BlockObservation;
using restkv::CompressionOptions;
using restkv::Heads;
using restkv::Matrix;
using restkv::bench::best_of;
using restkv::bench::random_floats;

struct Shape {
  const char* name;
  size_t heads, kv_heads, dim, width, ffn_width;

  /// Multiplications and additions of a layer's matrix products for one token.
  [[nodiscard]] double linear_flops() const {
    const size_t attention = (2 * heads + 2 * kv_heads) * dim * width;
    return 2.0 * static_cast<double>(attention + 3 * width * ffn_width);
  }
};

constexpr Shape kShapes[] = {{"SmolLM2-135M", 9, 3, 64, 576, 1536},
                             {"Gemma-3-270M", 4, 1, 256, 640, 2048},
                             {"Llama-3-8B", 32, 8, 128, 4096, 14336}};
constexpr size_t kBlock = 512;

/// Random keys, values, queries and W_O of one layer, and all other inputs of methods.
class Layer {
 public:
  Layer(const Shape& s, size_t n, AttentionPrecision precision)
      : n_(n),
        width_(s.width),
        blocks_(static_cast<double>(n) / static_cast<double>(kBlock)),
        q_(random_floats(s.heads * kBlock * s.dim)),
        k_(random_floats(s.kv_heads * n * s.dim)),
        v_(random_floats(s.kv_heads * n * s.dim)),
        wo_(random_floats(s.width * s.heads * s.dim)),
        inputs_(random_floats(kBlock * s.width)),
        out_(s.heads * kBlock * s.dim),
        lse_(s.heads * kBlock),
        sums_(s.heads * n, 1.0F),
        factor_({wo_.data(), s.width, s.heads * s.dim}, s.heads, s.dim),
        statistics_(s.heads, s.dim),
        queries_(q_.data(), s.heads, kBlock, s.dim) {
    statistics_.add(queries_);
    rotation_.cosine.assign(s.dim / 2, 0.5F);
    rotation_.sine.assign(s.dim / 2, 0.5F);
    view_.queries = queries_.slice_rows(kBlock - 64, 64);
    view_.keys = {k_.data(), s.kv_heads, n, s.dim};
    view_.unrotated_keys = view_.keys;
    view_.values = {v_.data(), s.kv_heads, n, s.dim};
    // Results of the last rows of the prompt's attention, which is measured first.
    view_.lse = {lse_.data() + kBlock - 64, s.heads, 64, kBlock};
    view_.outputs = Heads<const float>(out()).slice_rows(kBlock - 64, 64);
    view_.output = &factor_;
    view_.output_weights = {wo_.data(), s.width, s.heads * s.dim};
    view_.attention_sums = {sums_.data(), s.heads, n};
    view_.query_statistics = &statistics_;
    view_.future_rotation = &rotation_;
    view_.layers = 32;
    view_.precision = precision;
  }

  [[nodiscard]] const restkv::LayerObservation& view() const { return view_; }

  /// Time of the attention of a whole prompt: half of the time of the last block for every block,
  /// because blocks see from none to all of the keys.
  double attention_seconds() {
    return over_prompt(best_of(3, [&] {
      restkv::prefill_attention(queries_, view_.keys, view_.values, n_ - kBlock,
                                {.precision = view_.precision}, out(), lse());
    }));
  }
  /// The second pass of methods that sum the attention of all queries.
  double attention_sums_seconds() {
    AlignedVector<float> sums(sums_.size(), 0.0F);
    return over_prompt(best_of(3, [&] {
      restkv::attention_sums(queries_, view_.keys, n_ - kBlock, {}, lse(),
                             {sums.data(), queries_.heads, n_});
    }));
  }
  [[nodiscard]] double output_factor_seconds() const {
    return best_of(
        3, [&] { (void)restkv::OutputFactor(view_.output_weights, queries_.heads, queries_.dim); });
  }
  /// What a method does with every block while it passes the layer, for `view`.
  double watch_seconds(const CompressionOptions& options) {
    watched_.assign(queries_.heads * n_, std::numeric_limits<float>::quiet_NaN());
    const Matrix<float> watched(watched_.data(), queries_.heads, n_);
    view_.watched = watched;
    const auto watch_all = [&] {
      for (size_t begin = 0; begin < n_; begin += kBlock) {
        const BlockObservation block{.queries = queries_,
                                     .inputs = {inputs_.data(), kBlock, width_},
                                     .own_keys = {},
                                     .own_values = {},
                                     .keys = view_.keys.slice_rows(0, begin + kBlock),
                                     .values = view_.values.slice_rows(0, begin + kBlock),
                                     .lse = lse(),
                                     .outputs = out(),
                                     .begin = begin,
                                     .end = begin + kBlock,
                                     .precision = view_.precision,
                                     .output = &factor_,
                                     .query_heads = queries_.heads};
        restkv::find_method(options.method).watch(block, options, watched);
      }
    };
    return best_of(3, watch_all);
  }
  double query_statistics_seconds() {
    restkv::QueryStatistics statistics(queries_.heads, queries_.dim);
    return best_of(3, [&] { statistics.add(queries_); }) * blocks_;
  }

 private:
  [[nodiscard]] double over_prompt(double last_block) const { return last_block * blocks_ / 2; }
  Heads<float> out() { return {out_.data(), queries_.heads, kBlock, queries_.dim}; }
  Matrix<float> lse() { return {lse_.data(), queries_.heads, kBlock}; }

  size_t n_, width_;
  double blocks_;
  AlignedVector<float> q_, k_, v_, wo_, inputs_, out_, lse_, sums_, watched_;
  restkv::OutputFactor factor_;
  restkv::QueryStatistics statistics_;
  restkv::MeanRotation rotation_;
  Heads<const float> queries_;
  restkv::LayerObservation view_;
};

/// A file that maps a layer's inputs to scores by random numbers, as `kvzap` needs it.
class RandomStatistics {
 public:
  explicit RandomStatistics(const Shape& shape)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("compress_cost-{}.stats", shape.name)) {
    const AlignedVector<float> weights = random_floats(shape.kv_heads * shape.width);
    restkv::Calibration calibration;
    restkv::ScoreMap& map = calibration.scores.emplace_back();
    map.width = shape.width;
    map.weights.assign(weights.begin(), weights.end());
    map.bias.resize(shape.kv_heads);
    restkv::write_file_atomically(path_, restkv::calibration_text(calibration));
  }
  ~RandomStatistics() { std::filesystem::remove(path_); }
  RandomStatistics(const RandomStatistics&) = delete;
  RandomStatistics& operator=(const RandomStatistics&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::vector<std::pair<std::string, CompressionOptions>> rows(const std::string& statistics) {
  std::vector<std::pair<std::string, CompressionOptions>> list;
  for (const restkv::Method& method : restkv::methods()) {
    const bool repeats = watched_tokens(method.defaults) == restkv::WatchedTokens::kRepeat;
    if (method.name == "full" || method.name == "triattention" || repeats) continue;
    list.emplace_back(method.name, method.defaults);
    CompressionOptions& options = list.back().second;
    if (method.needs_statistics) options.statistics = statistics;
    if (options.allocation == "global")
      options.allocation = "uniform";  // one layer is all there is
    if (method.name == "restkv") {
      list.emplace_back("restkv order=before", method.defaults);
      list.back().second.own["order"] = "before";
    }
    if (method.name == "snapkv") {
      list.emplace_back("snapkv allocation=ada", method.defaults);
      list.back().second.allocation = "ada";
      list.emplace_back("snapkv critical", method.defaults);
      list.back().second.critical = true;
    }
  }
  return list;
}

/// `wanted`: names between commas; empty: all.
void measure(const Shape& shape, size_t n, double gemm_rate, AttentionPrecision precision,
             std::string_view wanted) {
  const RandomStatistics random_statistics(shape);
  Layer layer(shape, n, precision);
  const double attention = layer.attention_seconds();
  const double sums = layer.attention_sums_seconds();
  const double statistics = layer.query_statistics_seconds();
  const double prefill = attention + shape.linear_flops() * static_cast<double>(n) / gemm_rate;
  const bool f32 = precision == AttentionPrecision::kF32;
  std::printf("\n%s, n = %zu, budget 1024, %s: one layer's attention %.1f ms", shape.name, n,
              std::string(restkv::attention_precision_name(precision)).c_str(), attention * 1e3);
  if (f32) std::printf(", prefill %.1f ms", prefill * 1e3);
  std::printf("; factors of W_O, once per model, %.1f ms\n", layer.output_factor_seconds() * 1e3);
  std::printf("%-24s %12s %12s %10s %11s\n", "method", "during ms", "select ms", "x snapkv",
              f32 ? "of prefill" : "");
  double snapkv = 0;
  const auto time = [&](const CompressionOptions& options) {
    return best_of(9, [&] { (void)restkv::select_tokens(layer.view(), options); });
  };
  CompressionOptions yardstick = restkv::default_options("snapkv");
  yardstick.budget = 1024;
  snapkv = time(yardstick);
  for (auto& [name, options] : rows(random_statistics.path())) {
    const bool is_wanted =
        fmt::format(",{},", wanted).find("," + options.method + ",") != std::string::npos;
    if (!wanted.empty() && !is_wanted) continue;
    options.budget = 1024;
    const bool watches = watched_tokens(options) != restkv::WatchedTokens::kNone;
    const double during = restkv::needs_attention_sums(options)     ? sums
                          : restkv::needs_query_statistics(options) ? statistics
                          : watches                                 ? layer.watch_seconds(options)
                                                                    : 0.0;
    const double select = time(options);
    std::printf("%-24s %12.2f %12.2f %10.2f", name.c_str(), during * 1e3, select * 1e3,
                (during + select) / snapkv);
    if (f32) std::printf(" %10.2f%%", 100 * (during + select) / prefill);
    std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) restkv::set_num_threads(std::atoi(argv[1]));
  const size_t longest = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 131072;
  const AttentionPrecision precision =
      restkv::find_attention_precision(argc > 3 ? argv[3] : "auto");
  const double gemm_rate = restkv::bench::gemm_rate();
  std::printf("f32 matrix products: %.0f GFLOP/s, %d threads\n", gemm_rate * 1e-9,
              restkv::num_threads());
  for (const Shape& shape : kShapes) {
    for (const size_t n : {size_t{4096}, size_t{32768}, size_t{131072}}) {
      if (n <= longest) measure(shape, n, gemm_rate, precision, argc > 4 ? argv[4] : "");
    }
  }
}
