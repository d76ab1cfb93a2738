// y = x W^T with W of 2048 x 2048 in the types of GGUF files, by all methods in turns:
//
//   linear_bench few [TYPE...]      up to 192 rows of x: which product in the stored type is
//                                   fastest, and from how many rows on converting W pays (the
//                                   measurement behind the numbers in linear/linear.h)
//   linear_bench one [TYPE...]      one row of x, one thread, and 256 rows of W in the second-level
//                                   cache: whether single tokens wait for the product or for memory
//   linear_bench prefill [TYPE...]  prompts: W converted once, then blocks of 512 rows,
//                                   in float32, bfloat16 and 8 bits
//
// "ggml" is a graph of one matrix product, the faster of the stored weight and the weight repacked
// as libllama does at loading (without the time of repacking).

#include <fmt/format.h>
#include <ggml-cpu.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/int8_dot.h"
#include "base/threads.h"
#include "bench/machine.h"
#include "ggml_product.h"
#include "hwy/targets.h"
#include "linear/linear.h"
#include "linear/linear_precision.h"
#include "linear/packed_weight.h"
#include "linear/prompt_weight.h"
#include "model/ggml_log.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace {

using restkv::AlignedVector;
using restkv::Linear;
using restkv::Matrix;
using restkv::StoredProduct;
using restkv::bench::GgmlProduct;
using restkv::bench::random_floats;
using restkv::bench::seconds;

constexpr size_t kSize = 2048;
constexpr ggml_type kTypes[] = {GGML_TYPE_Q4_1, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_0,
                                GGML_TYPE_Q5_1, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_Q8_0,
                                GGML_TYPE_F16,  GGML_TYPE_F32};

/// Random weights in a ggml type, with their products.
struct Problem {
  Problem(ggml_type weight_type, size_t n)
      : type(weight_type),
        bytes(kSize * ggml_row_size(type, kSize)),
        linear({{bytes.data(), type, kSize, kSize}}),
        inputs(random_floats(n * kSize)),
        outputs(n * kSize),
        dense(kSize * kSize),
        x(inputs.data(), n, kSize),
        y(outputs.data(), n, kSize) {
    const auto source = random_floats(kSize * kSize);
    ggml_quantize_chunk(type, source.data(), bytes.data(), 0, kSize, kSize, nullptr);
  }
  ggml_type type;
  AlignedVector<char> bytes;
  Linear linear;
  AlignedVector<float> inputs, outputs, dense;
  Matrix<const float> x;
  Matrix<float> y;
};

/// ggml's layouts of one problem.
std::vector<std::unique_ptr<GgmlProduct>> ggml_products(const Problem& p) {
  std::vector<std::unique_ptr<GgmlProduct>> products;
  for (const bool repacked : {false, true}) {
    auto product =
        std::make_unique<GgmlProduct>(p.type, kSize, kSize, p.bytes.data(), repacked, p.x);
    if (product->possible()) products.push_back(std::move(product));
  }
  return products;
}

/// Long enough for the spinning idle threads of another method to fall asleep.
constexpr std::chrono::milliseconds kPause{15};

/// The best time of each method. Methods alternate, so that other work on the machine affects all
/// of them. Each runs twice in a row, as within a model, and the second time counts.
template <class... Ways>
std::vector<double> race(int rounds, const Ways&... ways) {
  std::vector<double> best(sizeof...(ways), 1e30);
  for (int round = 0; round < rounds; ++round) {
    size_t i = 0;
    const auto measure = [&](const auto& way) {
      std::this_thread::sleep_for(kPause);
      way();
      best[i] = std::min(best[i], seconds(way));
      ++i;
    };
    (measure(ways), ...);
  }
  return best;
}

void few(ggml_type type) {
  fmt::print("{:>6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "type", "rows", "rounded",
             "unpacked", "converted", "ggml", "fastest", "per row", "ggml/it");
  double one = 0;
  for (const size_t n : {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192}) {
    Problem p(type, n);
    const auto ggml = ggml_products(p);
    std::vector<double> t = race(
        n <= 16 ? 12 : 6, [&] { p.linear.multiply_stored(p.x, p.y, StoredProduct::kRounded); },
        [&] { p.linear.multiply_stored(p.x, p.y, StoredProduct::kUnpacked); },
        [&] { restkv::multiply_dense(p.x, p.linear.dequantize(p.dense), p.y); },
        [&] { p.linear.multiply_stored(p.x, p.y); }, [&] { ggml.front()->run(); },
        [&] { ggml.back()->run(); });
    const double theirs = std::min(t[4], t[5]);
    if (n == 1) one = t[3];
    fmt::print("{:>6} {:>5} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.2f} {:>9.2f}\n",
               ggml_type_name(type), n, t[0] * 1e3, t[1] * 1e3, t[2] * 1e3, theirs * 1e3,
               t[3] * 1e3, t[3] / static_cast<double>(n) / one, theirs / t[3]);
    std::fflush(stdout);
  }
}

void prefill(ggml_type type) {
  using restkv::LinearPrecision;
  constexpr size_t kRows = 512;
  Problem p(type, kRows);
  const auto ggml = ggml_products(p);
  p.linear.dequantize(p.dense);
  const auto size = [](size_t v) { return static_cast<dnnl_dim_t>(v); };
  restkv::PromptWeight f32, bf16, int8;
  const auto convert = [&](restkv::PromptWeight& weight, LinearPrecision precision) {
    if (restkv::supports(precision)) weight.convert(p.linear, precision);
  };
  const auto multiply = [&](const restkv::PromptWeight& weight, LinearPrecision precision) {
    if (restkv::supports(precision)) weight.multiply(p.x, p.y);
  };
  const std::vector<double> t = race(
      8,
      [&] {
        dnnl_sgemm('N', 'T', size(kRows), size(kSize), size(kSize), 1.0F, p.x.data, size(kSize),
                   p.dense.data(), size(kSize), 0.0F, p.y.data, size(kSize));
      },
      [&] { ggml.front()->run(); }, [&] { ggml.back()->run(); },
      [&] { convert(f32, LinearPrecision::kF32); }, [&] { multiply(f32, LinearPrecision::kF32); },
      [&] { convert(bf16, LinearPrecision::kBf16); },
      [&] { multiply(bf16, LinearPrecision::kBf16); },
      [&] { convert(int8, LinearPrecision::kInt8); },
      [&] { multiply(int8, LinearPrecision::kInt8); });
  const double theirs = std::min(t[1], t[2]);
  const double better = std::min(t[0], theirs);
  fmt::print("{:>6} {:>9.2f} {:>9.2f}", ggml_type_name(type), t[0] * 1e3, theirs * 1e3);
  size_t at = 3;
  for (const auto precision :
       {LinearPrecision::kF32, LinearPrecision::kBf16, LinearPrecision::kInt8}) {
    const double conversion = t[at++];
    const double product = t[at++];
    if (!restkv::supports(precision)) {
      fmt::print("{:>38}", "not on this processor");
      continue;
    }
    const auto ratio = [&](size_t tokens) {
      const double blocks = static_cast<double>(tokens) / kRows;
      return better * blocks / (conversion + product * blocks);
    };
    fmt::print(" {:>9.2f} {:>9.2f} {:>8.2f} {:>8.2f}", conversion * 1e3, product * 1e3, ratio(512),
               ratio(8192));
  }
  fmt::print("\n");
  std::fflush(stdout);
}

/// Bytes of weights per second that one thread multiplies from its cache.
void one(ggml_type type, double memory) {
  constexpr size_t kRows = 256;
  const auto source = random_floats(kRows * kSize);
  AlignedVector<char> bytes(kRows * ggml_row_size(type, kSize));
  ggml_quantize_chunk(type, source.data(), bytes.data(), 0, kRows, kSize, nullptr);
  const restkv::Weight weight{bytes.data(), type, kRows, kSize};
  const auto x = random_floats(kSize);
  std::vector<float> y(kRows);
  const auto rate = [&](const auto& product) {
    double best = 1e30;
    for (int i = 0; i < 200; ++i) best = std::min(best, seconds(product));
    return static_cast<double>(bytes.size()) / best / 1e9;
  };
  fmt::print("{:>6}", ggml_type_name(type));
  const std::pair<int64_t, bool> processors[] = {{0, true}, {HWY_AVX2, true}, {HWY_AVX2, false}};
  for (const auto& [targets, vnni] : processors) {
    hwy::SetSupportedTargetsForTest(targets);
    restkv::disable_int8_dot_for_test(!vnni);
    if (!restkv::PackedWeight::supports(type) || (vnni && !restkv::has_int8_dot())) {
      fmt::print(" {:>9} {:>9}", "", "");
      continue;
    }
    const restkv::PackedWeight packed(weight);
    restkv::QuantizedRows rounded;
    rounded.round({x.data(), 1, kSize});
    if (packed.needs_first_sums()) rounded.add_first_sums();
    const double speed = rate([&] {
      packed.multiply(rounded.view(), 0, kRows, {y.data(), 1, kRows});
    });
    fmt::print(" {:>9.1f} {:>9.2f}", speed, speed / memory);
  }
  hwy::SetSupportedTargetsForTest(0);
  restkv::disable_int8_dot_for_test(false);
  const auto& traits = *ggml_get_type_traits_cpu(type);
  AlignedVector<char> partner(ggml_row_size(traits.vec_dot_type, kSize));
  if (traits.vec_dot_type == GGML_TYPE_F32) {
    std::memcpy(partner.data(), x.data(), partner.size());
  } else {
    ggml_get_type_traits_cpu(traits.vec_dot_type)->from_float(x.data(), partner.data(), kSize);
  }
  const double theirs = rate([&] {
    for (size_t r = 0; r < kRows; ++r) {
      traits.vec_dot(kSize, &y[r], 0, weight.row(r), 0, partner.data(), 0, 1);
    }
  });
  fmt::print(" {:>9.1f} {:>9.2f}\n", theirs, theirs / memory);
  std::fflush(stdout);
}

int run(const std::string& what, const std::vector<ggml_type>& types) {
  restkv::capture_ggml_log();  // it reports every repacked weight
  ggml_cpu_init();
  if (what == "few") {
    fmt::print(
        "milliseconds; per row: of the fastest, as a share of the time of 1 row; ggml/it: how much "
        "longer ggml takes\n");
    for (const ggml_type type : types) few(type);
    return 0;
  }
  if (what == "one") {
    const double memory =
        restkv::bench::read_bandwidth() / 1e9 / static_cast<double>(restkv::num_threads());
    fmt::print("GB/s of one thread, and how many times what memory gives to each of {}: {:.1f}\n",
               restkv::num_threads(), memory);
    fmt::print("{:>6} {:>19} {:>19} {:>19} {:>19}\n", "type", "packed", "packed, AVX2",
               "AVX2, no VNNI", "ggml's dot");
    for (const ggml_type type : types) one(type, memory);
    return 0;
  }
  if (what == "prefill") {
    fmt::print(
        "512 rows, milliseconds; at 512 and at 8192: speed over the better of oneDNN f32 and ggml, "
        "with one conversion for a prompt of so many tokens\n{:>26}",
        "");
    for (const char* precision : {"f32", "bf16", "int8"}) fmt::print(" {:>37}", precision);
    fmt::print("\n{:>6} {:>9} {:>9}", "type", "oneDNN", "ggml");
    for (int i = 0; i < 3; ++i) {
      fmt::print(" {:>9} {:>9} {:>8} {:>8}", "convert", "multiply", "at 512", "at 8192");
    }
    fmt::print("\n");
    for (const ggml_type type : types) prefill(type);
    return 0;
  }
  fmt::print(stderr, "linear_bench: '{}' is none of 'few', 'one' and 'prefill'\n", what);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: linear_bench few|one|prefill [TYPE...]\n");
    return 2;
  }
  std::vector<ggml_type> types;
  for (int i = 2; i < argc; ++i) {
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](ggml_type t) {
      return std::string_view(ggml_type_name(t)) == argv[i];
    });
    if (type == std::end(kTypes)) {
      fmt::print(stderr, "linear_bench: there is no measurement of type '{}'\n", argv[i]);
      return 2;
    }
    types.push_back(*type);
  }
  if (types.empty()) types.assign(std::begin(kTypes), std::end(kTypes));
  try {
    return run(argv[1], types);
  } catch (const restkv::Error& e) {
    fmt::print(stderr, "linear_bench: {}\n", e.what());
    return 1;
  }
}
