#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Sparse prefill: patterns that skip tiles of a prompt's attention with little weight. It shortens
/// the time to the first token. It is independent of the compression of the cache.
namespace restkv {

/// A pattern and the options of all patterns; each pattern reads those it lists. Numbers of tokens
/// are rounded up to whole tiles of 64.
struct SparseOptions {
  std::string pattern = "dense";  ///< "dense", or a name of `sparse_patterns()`.
  int sinks = 1024;               ///< First tokens that all queries see.
  int local = 4096;               ///< Latest tokens that a query sees.
  int vertical = 1024;            ///< Tokens of the vertical lines: columns that all queries see.
  int slash = 2048;               ///< Tokens of the slash lines: diagonals of equal distance.
  double gamma = 0.95;            ///< Share of the estimated attention that is kept.
  double tau = 0.1;               ///< Largest Jensen-Shannon distance of a trusted estimate.
  int min_tokens = 1024;          ///< Minimum of tokens that a query sees.
  int stride = 16;                ///< Width of the antidiagonals: 8, 16 or 32.
  int samples = 2;                ///< Queries sampled from each block of 64.
  double threshold = 0.9;         ///< Share of the estimated attention that is kept.
  /// Compares with exact attention on a sample of the queries, at a few percent of its cost.
  bool measure_recall = false;
};

/// One field of `SparseOptions` by name.
struct SparseOption {
  std::string_view name;
  std::string_view values;  ///< "N" or "X".
  std::string_view help;
  int SparseOptions::*whole = nullptr;
  double SparseOptions::*real = nullptr;

  /// Throws `Error` (kInvalidArgument) naming option, value and what is expected.
  void set(SparseOptions& options, std::string_view value) const;
  [[nodiscard]] std::string get(const SparseOptions& options) const;
};

class LayerPattern;
struct SparseLayer;

/// A sparse pattern. Each is implemented in one file of src/attention/sparse/.
struct SparsePattern {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;
  std::vector<std::string_view> options;
  /// Whether the pattern needs all keys and the last queries of a layer before its first block.
  bool looks_ahead = false;
  /// Throws `Error` (kInvalidArgument) on values that the pattern cannot use.
  void (*check)(const SparseOptions& options) = nullptr;
  /// Makes the pattern of one layer; see src/attention/sparse/pattern.h.
  std::unique_ptr<LayerPattern> (*make)(const SparseOptions& options,
                                        const SparseLayer& layer) = nullptr;
};

std::span<const SparsePattern> sparse_patterns();
std::span<const SparseOption> sparse_options();
/// Throws `Error` (kInvalidArgument) listing the known names if there is none called `name`.
const SparsePattern& find_sparse_pattern(std::string_view name);

/// Options from a text such as "flexprefill:gamma=0.9:tau=0.2" or "dense". Throws `Error`
/// (kInvalidArgument) on unknown names, wrong values, and options that the pattern does not read.
SparseOptions parse_sparse(std::string_view text);
/// The inverse, with every option of the pattern.
std::string describe_sparse(const SparseOptions& options);
/// Throws `Error` (kInvalidArgument) on an unknown pattern or values that it cannot use.
void validate(const SparseOptions& options);

/// Skipped tiles and the time of sparse prefill, summed over prompts.
struct SparseReport {
  struct Head {
    size_t visible_tiles = 0;  ///< Tiles that dense attention computes.
    size_t kept_tiles = 0;     ///< Tiles that were computed.
    size_t sampled = 0;        ///< Queries compared with exact attention.
    double recall_sum = 0;     ///< Sum over them of the attention mass in kept tiles.
    double lowest_recall = 1;  ///< The lowest mass of one of them.

    void add(const Head& other);
    [[nodiscard]] double density() const;
    [[nodiscard]] double recall() const;
  };

  size_t layers = 0, query_heads = 0;
  std::vector<Head> heads;       ///< [layers, query_heads]; no tiles in layers that stay dense.
  double search_seconds = 0;     ///< Choice of tiles, computing keys ahead of time included.
  double attention_seconds = 0;  ///< Attention of sparse layers without the choice of tiles.
  double recall_seconds = 0;     ///< Comparison with exact attention (`measure_recall`).

  [[nodiscard]] const Head& head(size_t layer, size_t h) const {
    return heads[layer * query_heads + h];
  }
  [[nodiscard]] Head layer(size_t layer) const;
  [[nodiscard]] Head total() const;
};

}  // namespace restkv
