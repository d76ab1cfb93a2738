#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Sparse prefill: patterns that leave out tiles of a prompt's attention that hardly matter. It
/// shortens the time to the first token; what is kept in the cache afterwards is another choice.
namespace restkv {

/// A pattern and its options, each read by the patterns that name it. Tokens are rounded up to
/// whole tiles of 64.
struct SparseOptions {
  std::string pattern = "dense";  ///< "dense", or a name of `sparse_patterns()`.
  int sinks = 1024;               ///< First tokens that all see.
  int local = 4096;               ///< Latest tokens that a query sees.
  int vertical = 1024;            ///< Tokens in columns that all queries see.
  int slash = 2048;               ///< Tokens in diagonals: distances at which queries look back.
  double gamma = 0.95;            ///< Share of the estimated attention that is kept.
  double tau = 0.1;               ///< Largest distance of an estimate that is trusted.
  int min_tokens = 1024;          ///< Tokens that a query sees at least.
  int stride = 16;                ///< Width of the antidiagonals: 8, 16 or 32.
  int samples = 2;                ///< Queries of each block of 64 that are asked.
  double threshold = 0.9;         ///< Share of the estimated attention that is kept.
  /// Compare with exact attention on a sample of the queries; costs a few percent of it.
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

/// A pattern; each has a file of its own below src/attention/sparse/.
struct SparsePattern {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;
  std::vector<std::string_view> options;
  /// Whether a layer's keys and last queries must be known before its first block is attended.
  bool looks_ahead = false;
  /// Throws `Error` (kInvalidArgument) on values that it cannot use.
  void (*check)(const SparseOptions& options) = nullptr;
  /// What it keeps of one layer; src/attention/sparse/pattern.h.
  std::unique_ptr<LayerPattern> (*make)(const SparseOptions& options,
                                        const SparseLayer& layer) = nullptr;
};

std::span<const SparsePattern> sparse_patterns();
std::span<const SparseOption> sparse_options();
/// Throws `Error` (kInvalidArgument) with the names there are.
const SparsePattern& find_sparse_pattern(std::string_view name);

/// "flexprefill:gamma=0.9:tau=0.2", or "dense". Throws `Error` (kInvalidArgument) on names, values
/// and options that the pattern does not read.
SparseOptions parse_sparse(std::string_view text);
/// The same with every option of the pattern; "dense" for none.
std::string describe_sparse(const SparseOptions& options);
/// Throws `Error` (kInvalidArgument) on a pattern that there is not, or values it cannot use.
void validate(const SparseOptions& options);

/// What sparse prefill has left out and what it cost, summed over prompts.
struct SparseReport {
  struct Head {
    size_t visible_tiles = 0;  ///< That dense attention computes.
    size_t kept_tiles = 0;     ///< That were computed.
    size_t sampled = 0;        ///< Queries compared with exact attention.
    double recall_sum = 0;     ///< Their attention mass in kept tiles.
    double lowest_recall = 1;  ///< Of these queries.

    void add(const Head& other);
    [[nodiscard]] double density() const;
    [[nodiscard]] double recall() const;
  };

  size_t layers = 0, query_heads = 0;
  std::vector<Head> heads;       ///< [layers, query_heads]; no tiles in layers that stay dense.
  double search_seconds = 0;     ///< Choosing tiles, keys ahead of time included.
  double attention_seconds = 0;  ///< Attention of the layers that are sparse, search excluded.
  double recall_seconds = 0;     ///< Comparing with exact attention, which is not part of the work.

  [[nodiscard]] const Head& head(size_t layer, size_t h) const {
    return heads[layer * query_heads + h];
  }
  [[nodiscard]] Head layer(size_t layer) const;
  [[nodiscard]] Head total() const;
};

}  // namespace restkv
