#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "restkv/attention.h"
#include "restkv/budget.h"
#include "restkv/precision.h"
#include "restkv/query_statistics.h"
#include "restkv/selection.h"
#include "restkv/views.h"

/// KV-cache compression on plain arrays, independent of any model or engine.
///
/// A method reads one layer (queries of the observation window, keys, values, the output
/// projection) and scores positions per KV head. An allocation decides how many each head keeps:
///   observe -> score (-> smooth -> reduce over the GQA group) -> allocate -> select.
/// `select_tokens` runs the whole chain. Allocations over all layers at once need `LayerCascade`
/// (stages.h) instead, which sees one layer after another.
namespace restkv {

/// Smoothing of scores along positions.
enum class Pooling { kNone, kAverage, kMax, kAdaptive };
/// Reduction over the query heads of a KV head.
enum class GroupReduce { kMean, kMax, kSum };
/// Variant of the allocation `pyramid`. Rounding may exceed the budget in all but the first.
enum class PyramidVariant {
  kBalanced,  ///< The authors' line, rounded so that layers keep the budget on average.
  kAuthors,   ///< PyramidKV's published code: integer steps, uniform for short prompts.
  kRestkv,    ///< The same without the uniform branch, as in ReST-KV's published code.
  kKvpress,   ///< NVIDIA kvpress: real-valued line, rounded half to even.
};
/// Variant of the allocation `ada`: how every head gets its floor.
enum class AdaVariant {
  kBalanced,  ///< Blend with the uniform share, rounded so that the layer keeps its budget.
  kAuthors,   ///< AdaKV's published code: the same blend, each head rounded separately.
  kKvpress,   ///< NVIDIA kvpress: the best positions of each head are taken first.
};

/// Queries for which kept tokens are made to stand for the evicted ones: see `refit_rows` in
/// stages.h.
enum class Refit {
  kNone,    ///< Kept tokens stay as they are.
  kWindow,  ///< Those of the last `window` tokens of the prompt.
  kRepeat,  ///< Those of a repeat pass (repeat.h), which any method can have for this.
};

/// Pooling at two scales instead of one width: see `smooth_two_scales` in stages.h.
inline constexpr int kAutoKernel = -1;

/// Value of an option that one method declares for itself: a switch, an integer, a real number or a
/// word.
using OptionValue = std::variant<bool, int, double, std::string>;

/// Selects and parametrises a method. `default_options(name)` gives this project's defaults,
/// `paper_options(name)` the authors' values. A method ignores fields that it does not read (see
/// `Method::options`).
struct CompressionOptions {
  std::string method = "restkv";
  std::string allocation = "uniform";  ///< Distribution of the budget over layers and heads.
  int budget = 1024;                   ///< Tokens kept per KV head, observation window included.
  /// Above 0: the budget chooses itself. Every layer keeps the fewest tokens per head, at most
  /// `budget`, for which what its attention says to the queries of the window changes by no more
  /// than this share: see docs/methods.md.
  double tolerance = 0;
  int window = 32;  ///< Observation window: the last prompt tokens, always kept. If odd, its
                    ///< older half (adaptive window) is the shorter one.
  int sinks = 4;    ///< streaming-llm: first tokens that are always kept.

  Pooling pooling = Pooling::kAdaptive;
  int kernel = kAutoKernel;   ///< Pooling width in positions, odd; or `kAutoKernel`.
  double drift_scale = 2000;  ///< beta: drift, in positions, that widens the adaptive window by 2.

  GroupReduce group_reduce = GroupReduce::kMean;
  bool reduce_before_pooling = false;  ///< Reduce over the group before (true) or after pooling.
  bool per_query_head = false;  ///< One selection per query head (repeats KV heads, as published).

  int block_size = 0;  ///< Select after each block of this many positions; 0: once for all.

  PyramidVariant pyramid_variant = PyramidVariant::kBalanced;
  int pyramid_beta = 20;  ///< The last layer gets 1 / beta of the average.
  AdaVariant ada_variant = AdaVariant::kBalanced;
  double ada_floor = 0.2;     ///< Share of the budget that every head gets at least.
  bool ada_normalize = true;  ///< Weigh a head's scores by how concentrated they are.
  double cake_tau1 = 1.0;     ///< cake: the entropy of attention counts to the power of 1 / tau1.
  double cake_tau2 = 1.0;     ///< cake: its variance counts to the power of 1 / tau2.
  std::string profile;        ///< Path of the profile that the allocation `profile` reads.
  std::string statistics;     ///< Path of what `restkv calibrate` has learned about a model.

  bool critical = false;           ///< CriticalKV's second stage: weigh scores by ||W_h v||_1.
  double critical_ratio = 0.5;     ///< Share of a head's budget that the plain scores decide.
  double critical_epsilon = 1e-4;  ///< Added to scores before they are weighed.

  bool merge = false;          ///< Fold the values of evicted tokens into kept ones.
  double merge_threshold = 0;  ///< Least cosine of two keys whose values are merged.
  double merge_fraction = 1;   ///< Share of evicted tokens that are merged, the most similar ones.

  Refit refit = Refit::kNone;  ///< Refit kept tokens after each cut that has such queries.
  int refit_queries = 256;     ///< repeat: queries per query head, spread over the repeat pass.
  double refit_ridge = 1e-3;   ///< Weight of the tokens as they are: see `refit_rows`.

  /// Values of the method's own options (`Method::own_options`) that differ from its defaults:
  /// own["alpha"] = 0.5.
  std::map<std::string, OptionValue, std::less<>> own;
};

/// R of every query head of one layer. The C x d block W_h of the output projection enters the
/// scores only through ||W_h x||. With the thin QR factorisation W_h = Q R this equals ||R x||,
/// where R is d x d and upper triangular. Build it once per model and layer.
class OutputFactor {
 public:
  OutputFactor() = default;
  /// `wo` [width, query_heads * head_dim] is the usual o_proj weight, row-major; head h has the
  /// columns h*d..h*d+d-1. R comes from a Cholesky factorisation of W_h^T W_h in double.
  OutputFactor(Matrix<const float> wo, size_t query_heads, size_t head_dim);

  [[nodiscard]] bool empty() const { return r_.empty(); }
  [[nodiscard]] size_t heads() const { return heads_; }
  [[nodiscard]] size_t head_dim() const { return dim_; }
  /// R of one head: [head_dim, head_dim], upper triangular, row-major.
  [[nodiscard]] Matrix<const float> head(size_t h) const {
    return {r_.data() + h * dim_ * dim_, dim_, dim_};
  }
  [[nodiscard]] size_t bytes() const { return r_.size() * sizeof(float); }

 private:
  size_t heads_ = 0;
  size_t dim_ = 0;
  std::vector<float> r_;
};

/// State of a method for one layer of a sequence, kept from one selection to the next: any numbers,
/// none before the first selection. It is forked and saved with the sequence. A method must accept
/// arbitrary numbers, because a damaged file may hold them.
using MethodState = std::vector<uint64_t>;

/// Tokens that a method watches on their way through a layer.
enum class WatchedTokens {
  kNone,
  kContext,  ///< Those of the prompt itself.
  kAll,     ///< The same, and tokens that are decoded after it, one at a time. Of these a block has
            ///< queries and inputs, no keys and values, and one column of numbers, its own.
  kRepeat,  ///< Those of a repeat pass, in which the prompt is fed again behind itself: see
            ///< repeat.h. The method must declare the option "repeat_chunk".
};

/// A block of watched tokens in one layer. Holds views only.
struct BlockObservation {
  Heads<const float> queries;  ///< [query_heads, m, d], after rotary embedding.
  /// [m, C]: what the layer's attention reads, its input after the norm. Empty: not given.
  Matrix<const float> inputs = {};
  /// Own keys and values [kv_heads, rows, d] of the block's tokens and, in a repeat pass, of those
  /// fed before them since the chunk began. They end with the block: row i of the queries sees all
  /// but the last m - 1 - i of them.
  Heads<const float> own_keys, own_values;
  /// Of the context, [kv_heads, n, d]: all tokens that every row sees (repeat pass), or all up to
  /// the end of the block.
  Heads<const float> keys, values;
  /// Biases of these rows, as in `LayerObservation`.
  Matrix<const float> bias = {};
  /// As in `LayerObservation`, of the attention to all that the rows see: [query_heads, m] and
  /// [query_heads, m, d]. Given if `Method::watches_outputs`.
  Matrix<const float> lse = {};
  Heads<const float> outputs = {};
  /// Rows [begin, end) of the context that the block is about: the chunk that it repeats, or the
  /// block itself.
  size_t begin = 0, end = 0;
  float scale = 0.0F;  ///< As in `LayerObservation`; so are the following.
  float softcap = 0.0F;
  AttentionPrecision precision = AttentionPrecision::kF32;
  std::span<const float> sink_logits = {};
  const OutputFactor* output = nullptr;
  size_t layer = 0;
  size_t first_query_head = 0;
  size_t query_heads = 0;  ///< Of the whole layer; 0: those of `queries`.
};

/// Inputs of a method: one layer after prefill. Holds views only.
struct LayerObservation {
  /// Queries of the last prompt tokens, oldest first, after rotary embedding: [query_heads, rows,
  /// d], with at least `observed_queries` rows (or all n).
  Heads<const float> queries;
  Heads<const float> keys;    ///< [kv_heads, n, d], after rotary embedding.
  Heads<const float> values;  ///< [kv_heads, n, d].
  /// Added to the logits of the rows, [kv_heads, n]: those of rows that were refitted. Empty: 0.
  Matrix<const float> bias = {};
  /// The keys before rotary embedding, [kv_heads, n, d].
  Heads<const float> unrotated_keys = {};
  /// Logarithms of the softmax denominators of `queries`, [query_heads, rows], from
  /// `prefill_attention`. Empty: the method computes them in one more pass over the keys.
  Matrix<const float> lse = {};
  /// Attention outputs of the last of `queries`, [query_heads, rows, d], from `prefill_attention`,
  /// with `observed_outputs` rows. Empty: the method computes them in one more pass over the
  /// values.
  Heads<const float> outputs = {};
  /// Queries of the repeat pass, spread evenly over it: [query_heads, rows, d]. They see all rows.
  /// Only `refit_targets` reads them.
  Heads<const float> repeat_queries = {};
  const OutputFactor* output = nullptr;  ///< Needed by methods with `use_wo`.
  /// W_O as in OutputFactor's constructor; needed by `critical`, whose norm is not Euclidean, and
  /// by `tolerance`, which is about all heads of the layer together.
  Matrix<const float> output_weights = {};
  /// Attention that each position received from all prompt queries, [query_heads, n]: see
  /// `attention_sums`.
  Matrix<const float> attention_sums = {};
  /// What `Method::watch` has written about each position, [query_heads, n]; NaN where it has
  /// written nothing.
  Matrix<const float> watched = {};
  /// Statistics of all queries but the first `sinks`, before rotary embedding.
  const QueryStatistics* query_statistics = nullptr;
  /// Rotation averaged over positions n to n + `future_positions` - 1; set if `query_statistics`
  /// is.
  const MeanRotation* future_rotation = nullptr;
  /// Rotary embeddings of the positions n + o for each o of `rotation_offsets`.
  std::span<const MeanRotation> rotations = {};
  float scale = 0.0F;    ///< Softmax scale; 0 means 1/sqrt(d).
  float softcap = 0.0F;  ///< Logit soft cap (Gemma 2); 0 means none.
  /// As in `AttentionOptions`, [query_heads]: columns of the softmax that are never evicted.
  std::span<const float> sink_logits = {};
  /// Precision of products with keys and W_O where the observation window scores positions. Softmax
  /// and sums are in float32.
  AttentionPrecision precision = AttentionPrecision::kF32;
  size_t layer = 0;
  size_t layers = 1;
  /// Number of tokens that a layer of average budget selects from. Earlier selections may have left
  /// layers with different numbers, and allocations over layers need a common one. 0: `keys.rows`.
  size_t tokens = 0;
  /// Tokens per head that the last selection has left in this layer, on average: a budget that
  /// chooses itself does not fall below it. 0: there was none.
  size_t settled = 0;
  /// First query head of `queries` where an observation covers a part of a layer's heads. `output`
  /// and `query_statistics` always cover the whole layer.
  size_t first_query_head = 0;
  MethodState* state = nullptr;  ///< Null: the sequence has only this selection.
};

/// Intermediate results of a selection, for tests and figures. `raw` and `smoothed` are
/// [head][past position]; a head is a KV head if the group is reduced before pooling and a query
/// head otherwise. drift, kernel and shift describe the adaptive window. A vector is empty if the
/// method has no such stage or if n < budget. drift, kernel and shift are also empty if
/// `kAutoKernel` meets a prompt too short for a drift of `drift_scale` positions.
struct SelectionTrace {
  std::vector<std::vector<float>> raw;
  std::vector<std::vector<float>> smoothed;
  std::vector<float> drift;
  std::vector<int> kernel;
  std::vector<int> shift;
  std::vector<std::vector<float>> scores;  ///< Final scores: [cache head][candidate].
};

/// Result of a method for one layer. Positions [0, candidates) compete for the budget. The rest of
/// the prompt, [candidates, n), is protected: every cache head keeps it, and it counts against the
/// budget. A method that keeps a layer whole has no candidates.
struct LayerScores {
  size_t heads = 0;  ///< Cache heads.
  size_t candidates = 0;
  std::vector<float> values;  ///< [heads, candidates]; larger is kept.
  /// Positions [i * chunk, (i + 1) * chunk) have equal scores and are kept or evicted together. A
  /// head that may keep less than a chunk keeps the beginning of its best one.
  size_t chunk = 1;

  LayerScores(size_t cache_heads, size_t competing)
      : heads(cache_heads), candidates(competing), values(cache_heads * competing) {}
  [[nodiscard]] Matrix<float> rows() { return {values.data(), heads, candidates}; }
  [[nodiscard]] Matrix<const float> rows() const { return {values.data(), heads, candidates}; }
};

/// Meaning of scores beyond the order of the positions of one head.
enum class ScoreKind {
  kMass,    ///< Finite, not negative, comparable between heads, like attention weights.
  kSigned,  ///< Finite and comparable between heads, but of any sign.
  kRank,    ///< Only the order within a head has a meaning. Scores may be infinite. A position with
            ///< a score of minus infinity is not kept even if there is room.
};

/// Properties of a model that decide which options it can use.
struct CacheShape {
  size_t layers = 1;         ///< Layers with a compressed cache: `LayerObservation::layers`.
  size_t window_layers = 0;  ///< Layers that keep their sliding window, independent of the budget.
  size_t kv_heads = 1;
  size_t query_heads = 1;
  size_t width = 0;    ///< Channels of what a layer's attention reads; 0: unknown.
  uint64_t model = 0;  ///< `ModelConfig::fingerprint`; 0: unknown.
};

/// All queries of the prompt.
inline constexpr size_t kAllQueries = static_cast<size_t>(-1);

/// An option that a method declares for itself. A name must have one meaning in all methods.
struct OwnOption {
  std::string_view name;
  /// "N", "X", "true|false", or the words it takes: "key|value|mean". "X|none": a number or a word.
  std::string_view values;
  std::string_view help;
  OptionValue initial;  ///< The default; its type is the type of the option.
};

/// `option` has an effect only while `holds` is true, which depends on the option `other`.
struct OptionCondition {
  std::string_view option;
  std::string_view other;
  bool (*holds)(const CompressionOptions&);
};

/// A compression method: its name, its source and its functions.
struct Method {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;  ///< Title and identifier of the source.
  /// Names of the shared options it reads, besides budget. `register_method` adds its own options.
  std::vector<std::string_view> options;
  std::vector<OwnOption> own_options;
  std::vector<OptionCondition> conditions;  ///< Of its own options.
  CompressionOptions defaults;
  /// The authors' values, if they differ from the defaults.
  std::optional<CompressionOptions> paper_defaults;
  ScoreKind score_kind = ScoreKind::kMass;
  bool allocates = true;  ///< Reads the options of allocation, `critical`, `merge`, `refit`, too.
  /// Number of future positions that `future_rotation` is averaged over; null: the method needs no
  /// `query_statistics`.
  size_t (*future_positions)(const CompressionOptions&) = nullptr;
  /// Distances o of positions n + o whose rotary embedding it reads
  /// (`LayerObservation::rotations`); null means none.
  std::vector<size_t> (*rotation_offsets)(const CompressionOptions&) = nullptr;
  /// Whether it reads a calibration file (the option `statistics`), without which it is refused.
  bool needs_statistics = false;
  /// The least score that keeps a candidate: with one, those below are dropped even if the budget
  /// has room, and a prompt within the budget is cut, too. Null means never.
  std::optional<double> (*least_score)(const CompressionOptions&) = nullptr;
  /// Number of last queries it reads; null means none.
  size_t (*observed_queries)(const CompressionOptions&) = nullptr;
  /// Number of last attention outputs it reads, at most as many as queries; null means none.
  size_t (*observed_outputs)(const CompressionOptions&) = nullptr;
  /// Whether it reads `LayerObservation::attention_sums`; null means never.
  bool (*needs_attention_sums)(const CompressionOptions&) = nullptr;
  /// Whether it reads `LayerObservation::unrotated_keys`; null means never.
  bool (*needs_unrotated_keys)(const CompressionOptions&) = nullptr;
  /// Whether it keeps some layers whole, beyond the budget; null means never.
  bool (*keeps_layers)(const CompressionOptions&) = nullptr;
  /// Throws on options it cannot use; the rest of `validate`.
  void (*check)(const CompressionOptions&) = nullptr;
  /// Throws on options it cannot use with a model of this shape; may be null.
  void (*check_shape)(const CompressionOptions&, const CacheShape&) = nullptr;
  /// Whether it reads W_O under these options; null means never.
  bool (*needs_output)(const CompressionOptions&) = nullptr;
  /// The tokens that `watch` sees while they pass a layer; null means none.
  WatchedTokens (*watched_tokens)(const CompressionOptions&) = nullptr;
  /// Whether `watch` reads the outputs of the attention and their denominators; null means never.
  bool (*watches_outputs)(const CompressionOptions&) = nullptr;
  /// Called for each block of watched tokens, in order. Writes to `watched` [query_heads, n] what
  /// `score` shall find in `LayerObservation::watched`; all of it is NaN before the first block.
  /// Only columns of tokens up to the block's end may be written.
  void (*watch)(const BlockObservation&, const CompressionOptions&,
                Matrix<float> watched) = nullptr;
  /// Scores one layer. Shapes and options are checked before the call. n is at least 1 and may be
  /// below the budget: earlier evictions may have cut the layer deeper. The caller refuses scores
  /// that are not finite (unless they are ranks) with an error that names the faulty input.
  LayerScores (*score)(const LayerObservation&, const CompressionOptions&,
                       SelectionTrace*) = nullptr;
};

/// What one of several layers still keeps of its candidates.
struct LayerCandidates {
  std::vector<std::vector<float>> scores;  ///< [cache head][candidate], in the order of positions.
  size_t share = 0;                        ///< As in `Allocation::allocate`.
  double preference = 0.0;                 ///< Of `Allocation::prefer`.
};

/// A distribution of the budget over layers and cache heads.
struct Allocation {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;                 ///< Title and identifier of the source; may be empty.
  std::vector<std::string_view> options;  ///< Names of the options it reads, besides budget.
  bool over_layers = false;               ///< Layers get different shares of the budget.
  /// Throws on options it cannot use or a method it does not suit; may be null.
  void (*check)(const CompressionOptions&, const Method&) = nullptr;
  /// The same for a model of this shape; may be null.
  void (*check_shape)(const CompressionOptions&, const CacheShape&) = nullptr;
  /// Number of candidates that each cache head keeps. `share` is the average over layers and heads:
  /// the budget less protected positions. It exceeds `scores.candidates` where earlier selections
  /// left this layer fewer tokens than others. The caller limits the result to `scores.candidates`.
  std::vector<size_t> (*allocate)(const LayerObservation&, const LayerScores& scores, size_t share,
                                  const CompressionOptions&) = nullptr;
  /// Number of last queries it reads, besides those of the method; null means none.
  size_t (*observed_queries)(const CompressionOptions&) = nullptr;
  /// How much of the budget a layer should get, for `reallocate`; null: 0. The heads are given as
  /// to `select_ragged`.
  double (*prefer)(std::span<const LayerObservation> heads, const CompressionOptions&) = nullptr;
  /// For allocations whose counts depend on later layers; null for others. Called after each of
  /// `all_layers` layers with all layers so far. Returns how many of the candidates that are left
  /// each head may still keep, [layer][head]. Counts of a layer must never rise again, because the
  /// others are dropped at once.
  std::vector<std::vector<size_t>> (*reallocate)(std::span<const LayerCandidates> so_far,
                                                 size_t all_layers,
                                                 const CompressionOptions&) = nullptr;
};

/// Tokens per head that NVIDIA kvpress keeps of `length` at a compression ratio, for comparisons at
/// the same budget: max(1, floor(length * (1 - ratio))). Throws `Error` (kInvalidArgument) unless
/// 0 <= ratio < 1.
int kvpress_budget(size_t length, double compression_ratio);

/// All allocations, in the order in which documentation lists them.
std::span<const Allocation> allocations();
/// Throws `Error` (kInvalidArgument) listing the known names if there is none called `name`.
const Allocation& find_allocation(std::string_view name);

/// All methods, in the order in which documentation lists them.
std::span<const Method> methods();
/// Throws `Error` (kInvalidArgument) listing the known names if there is none called `name`.
const Method& find_method(std::string_view name);
/// Adds a method from outside the library. Its texts must outlive every use of it. Must not be
/// called while other threads use methods. Throws `Error` (kInvalidArgument) if the name is taken
/// or a required field of `Method` is missing.
void register_method(Method method);
/// The defaults of a method; throws like `find_method`.
CompressionOptions default_options(std::string_view method);
/// The values of the method's authors, for comparisons with published figures (restkv: kernel 5).
/// Throws like `find_method`.
CompressionOptions paper_options(std::string_view method);
/// Throws `Error` (kInvalidArgument) naming option, value and remedy if the options are unusable
/// for any prompt (budget <= window, even kernel, alpha outside (0, 1], ...).
void validate(const CompressionOptions& options);
/// Throws also if the options are unusable for any prompt of a model of this shape: a ladder over
/// more layers than there are, a profile of other layers, ... Accepts all options if the model has
/// no layer to compress.
void validate(const CompressionOptions& options, const CacheShape& shape);
/// Value or default of an option that the method declares for itself. Throws `Error`
/// (kInvalidArgument) if the method has no such option or the value has another type.
bool own_switch(const CompressionOptions& options, std::string_view option);
int own_whole(const CompressionOptions& options, std::string_view option);
double own_real(const CompressionOptions& options, std::string_view option);
/// Index of the word: "mean" is 2 of "key|value|mean".
size_t own_word(const CompressionOptions& options, std::string_view option);
/// The number of an option "X|none"; empty for the word.
std::optional<double> own_real_if_any(const CompressionOptions& options, std::string_view option);

/// Whether the method reads W_O, so that the caller must provide `LayerObservation::output`.
bool needs_output_factor(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::output_weights`.
bool needs_output_weights(const CompressionOptions& options);
/// Number of last query rows that the method and `refit` read: 0 if none, `kAllQueries` if all.
size_t observed_queries(const CompressionOptions& options);
/// Number of last attention outputs that the method reads.
size_t observed_outputs(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::attention_sums`.
bool needs_attention_sums(const CompressionOptions& options);
/// The tokens that the caller must show to `Method::watch`, for `LayerObservation::watched`.
WatchedTokens watched_tokens(const CompressionOptions& options);
/// Whether the caller must provide `BlockObservation::lse` and `outputs`.
bool watches_outputs(const CompressionOptions& options);
/// Tokens that the repeat pass repeats at a time: the method's own option "repeat_chunk", or 512
/// if only `refit` needs the pass; 0: nobody needs one.
size_t repeat_chunk(const CompressionOptions& options);
/// Whether these tokens see only the chunk and the first tokens of the prompt, its own option
/// "repeat_sees".
bool repeats_narrowly(const CompressionOptions& options);
/// Whether every layer's budget chooses itself (`CompressionOptions::tolerance`).
bool chooses_budget(const CompressionOptions& options);
/// The options' budget, with their tolerance.
Budget budget_of(const CompressionOptions& options);
/// Sets both for a prompt of n tokens; a budget without a tolerance leaves that of the options.
void set_budget(CompressionOptions& options, const Budget& budget, size_t n);
/// Whether so many tokens per head are kept without a look at them: no more than the budget or, if
/// it chooses itself, than the least that it can be. Never with a `least_score`.
bool keeps_whole(const CompressionOptions& options, size_t tokens);
/// Whether the caller must refit what is kept: `refit_targets` and `refit_rows` (stages.h).
bool refits(const CompressionOptions& options);
/// Queries of the repeat pass per query head that `LayerObservation::repeat_queries` needs; 0:
/// none.
size_t repeat_queries(const CompressionOptions& options);
/// Whether layers are cut again after later ones (`Allocation::reallocate`).
bool reallocates(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::query_statistics` and `future_rotation`.
bool needs_query_statistics(const CompressionOptions& options);
/// Number of future positions that `future_rotation` is averaged over: 0 without one.
size_t future_positions(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::unrotated_keys`.
bool needs_unrotated_keys(const CompressionOptions& options);
/// Distances o for which the caller must provide `LayerObservation::rotations`, if any.
std::vector<size_t> rotation_offsets(const CompressionOptions& options);
/// Whether some layers are kept whole, beyond the budget.
bool keeps_layers(const CompressionOptions& options);
/// The least score that keeps a candidate, if the method has one: see `Method::least_score`.
std::optional<double> least_score(const CompressionOptions& options);

/// Selects the positions that each cache head keeps; all of them if `keeps_whole` says so. A token
/// with an attention weight of 1 gets a large but finite score: the reconstruction error divides by
/// 1 - a, which is at least 2^-24.
/// Throws `Error`: kInvalidArgument on options that `validate` refuses or shapes that do not fit,
/// and for one of several layers under an allocation over all of them; kInput on NaN or infinity
/// among queries, keys or values (not checked if all are kept or the method never reads them).
Selection select_tokens(const LayerObservation& layer, const CompressionOptions& options,
                        SelectionTrace* trace = nullptr);

/// The same for a layer whose cache heads hold different numbers of tokens. Each observation covers
/// one KV head, or several heads with the same positions. The budget is distributed over all of
/// them together. Unlike `select_tokens` it scores short heads too, down to empty ones. Positions
/// of the result are row indices within each head.
Selection select_ragged(std::span<const LayerObservation> heads, const CompressionOptions& options);

}  // namespace restkv
