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
#include "restkv/precision.h"
#include "restkv/query_statistics.h"
#include "restkv/selection.h"
#include "restkv/views.h"

/// KV-cache compression on plain arrays, independent of any model or engine.
///
/// A method looks at one layer (queries of the observation window, keys, values, the output
/// projection) and scores positions per KV head; an allocation says how many each head keeps:
///   observe -> score (-> smooth -> reduce over the GQA group) -> allocate -> select.
/// `select_tokens` runs the whole chain.
namespace restkv {

/// How scores are smoothed along positions.
enum class Pooling { kNone, kAverage, kMax, kAdaptive };
/// How the query heads of one KV head agree.
enum class GroupReduce { kMean, kMax, kSum };
/// Whose rule the allocation `pyramid` follows. All but the first may pass the budget by rounding.
enum class PyramidVariant {
  kBalanced,  ///< The authors' line, rounded so that layers keep the budget on average.
  kAuthors,   ///< PyramidKV's published code: integer steps, uniform for short prompts.
  kRestkv,    ///< The same without the uniform branch, as in ReST-KV's published code.
  kKvpress,   ///< NVIDIA kvpress: real-valued line, rounded half to even.
};
/// How the allocation `ada` guarantees every head its floor.
enum class AdaVariant {
  kBalanced,  ///< Blend with the uniform share, rounded so that the layer keeps its budget.
  kAuthors,   ///< AdaKV's published code: the same blend, each head rounded for itself.
  kKvpress,   ///< NVIDIA kvpress: the best of each head are taken first.
};

/// A pooling width that needs no choice: see `smooth_two_scales` in stages.h.
inline constexpr int kAutoKernel = -1;

/// A value of an option that one method declares for itself: a switch, a whole number, a real one,
/// or a word.
using OptionValue = std::variant<bool, int, double, std::string>;

/// Everything that selects and parametrises a method. `default_options(name)` gives the values to
/// begin with, `paper_options(name)` the authors'; fields that a method does not read are ignored
/// by it (see `Method::options`).
struct CompressionOptions {
  std::string method = "restkv";
  std::string allocation = "uniform";  ///< How the budget is shared out over layers and heads.
  int budget = 1024;                   ///< Tokens kept per KV head, observation window included.
  int window = 32;  ///< Observation window: the last prompt tokens, always kept. If odd, its
                    ///< older half (adaptive window) is the shorter one.
  int sinks = 4;    ///< streaming-llm: first tokens that always stay.

  Pooling pooling = Pooling::kAdaptive;
  int kernel = kAutoKernel;   ///< Pooling width in positions, odd; or `kAutoKernel`.
  double drift_scale = 2000;  ///< beta: positions of drift per step of the adaptive window.

  GroupReduce group_reduce = GroupReduce::kMean;
  bool reduce_before_pooling = false;  ///< Reduce over the group before (true) or after pooling.
  bool per_query_head = false;  ///< One selection per query head (repeats KV heads, as published).

  int block_size = 0;  ///< Feed this many positions at a time and cut after each; 0: all at once.

  PyramidVariant pyramid_variant = PyramidVariant::kBalanced;
  int pyramid_beta = 20;  ///< The last layer gets 1 / beta of the average.
  AdaVariant ada_variant = AdaVariant::kBalanced;
  double ada_floor = 0.2;     ///< Share of the budget that every head is sure of.
  bool ada_normalize = true;  ///< Weigh a head's scores by how concentrated they are.
  std::string profile;        ///< Path of the profile that the allocation `profile` reads.

  bool critical = false;           ///< CriticalKV's second stage: weigh scores by ||W_h v||_1.
  double critical_ratio = 0.5;     ///< Part of a head's budget that the plain scores decide.
  double critical_epsilon = 1e-4;  ///< Added to scores before they are weighed.

  /// Values of options that the method alone has (`Method::own_options`), where they are not its
  /// defaults: own["alpha"] = 0.5.
  std::map<std::string, OptionValue, std::less<>> own;
};

/// W_h, the C x d block of the output projection that belongs to one query head, enters the scores
/// only through ||W_h x||. With W_h = Q R (thin QR) this is ||R x||, R upper triangular d x d.
/// Holds R of every query head of one layer; build it once per model and layer.
class OutputFactor {
 public:
  OutputFactor() = default;
  /// `wo` is [width, query_heads * head_dim], row-major, head h owning columns h*d..h*d+d-1 (the
  /// usual o_proj weight). R comes from a Cholesky factorisation of W_h^T W_h in double.
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

/// What a method remembers of a layer of a sequence from one selection to the next: any numbers,
/// none before the first. Forked and saved with the sequence; whoever reads them must expect any.
using MethodState = std::vector<uint64_t>;

/// What a method may look at: one layer after prefill. Views only; nothing is copied.
struct LayerObservation {
  /// Last rows of the prompt, oldest first, after rotary embedding: [query_heads, rows, d], with at
  /// least `observed_queries` rows (or all n).
  Heads<const float> queries;
  Heads<const float> keys;    ///< [kv_heads, n, d], after rotary embedding.
  Heads<const float> values;  ///< [kv_heads, n, d].
  /// Logarithms of the softmax denominators of `queries`, [query_heads, rows], as
  /// `prefill_attention` gives them; may be empty.
  Matrix<const float> lse = {};
  /// Attention outputs of the last of `queries`, [query_heads, rows, d], as `prefill_attention`
  /// gives them; may be empty. Methods that would compute them use those of `observed_outputs`
  /// rows.
  Heads<const float> outputs = {};
  const OutputFactor* output = nullptr;  ///< Needed by methods with `use_wo`.
  /// W_O as in OutputFactor's constructor; needed by `critical` only, whose norm is not Euclidean.
  Matrix<const float> output_weights = {};
  /// What each position received from all prompt queries, [query_heads, n]: see `attention_sums`.
  Matrix<const float> attention_sums = {};
  /// Of all queries before rotary embedding but the first `sinks`.
  const QueryStatistics* query_statistics = nullptr;
  /// Averaged over positions n to n + `future_positions` - 1; comes with `query_statistics`.
  const MeanRotation* future_rotation = nullptr;
  float scale = 0.0F;    ///< Softmax scale; 0 means 1/sqrt(d).
  float softcap = 0.0F;  ///< Logit soft cap (Gemma 2); 0 means none.
  /// In which products with keys and W_O are computed where the observation window scores
  /// positions; softmax and sums are in float32.
  AttentionPrecision precision = AttentionPrecision::kF32;
  size_t layer = 0;
  size_t layers = 1;
  /// Tokens that a layer of average budget would choose from: where earlier selections left layers
  /// with different numbers, allocations over layers must agree on one. 0: those of the keys.
  size_t tokens = 0;
  /// Which query head `queries` begin with, where an observation shows a part of a layer's heads:
  /// `output` and `query_statistics` are those of the whole layer.
  size_t first_query_head = 0;
  MethodState* state = nullptr;  ///< Null: this selection is the only one.
};

/// Intermediate results of a selection, for tests and pictures. `raw` and `smoothed` are
/// [head][past position], where a head is a KV head if the group is reduced before pooling and a
/// query head otherwise; drift, kernel and shift belong to the adaptive window. Empty where a
/// method has no such stage, if n < budget, and where `kAutoKernel` meets a prompt too short for a
/// drift of `drift_scale` positions.
struct SelectionTrace {
  std::vector<std::vector<float>> raw;
  std::vector<std::vector<float>> smoothed;
  std::vector<float> drift;
  std::vector<int> kernel;
  std::vector<int> shift;
  std::vector<std::vector<float>> scores;  ///< What decided: [cache head][candidate].
};

/// What a method says about one layer. Positions [0, candidates) compete for the budget; the rest
/// of the prompt, [candidates, n), is protected: every cache head keeps it, and it counts against
/// the budget. A method that keeps a layer whole has no candidates.
struct LayerScores {
  size_t heads = 0;  ///< Cache heads.
  size_t candidates = 0;
  std::vector<float> values;  ///< [heads, candidates]; larger is kept.

  LayerScores(size_t cache_heads, size_t competing)
      : heads(cache_heads), candidates(competing), values(cache_heads * competing) {}
  [[nodiscard]] Matrix<float> rows() { return {values.data(), heads, candidates}; }
  [[nodiscard]] Matrix<const float> rows() const { return {values.data(), heads, candidates}; }
};

/// What may be done with scores besides ordering the positions of one head.
enum class ScoreKind {
  kMass,    ///< Finite, not negative, comparable between heads, like attention weights.
  kSigned,  ///< Finite and comparable between heads, but of any sign.
  kRank,    ///< Only the order within a head means something; infinity allowed. What scores minus
            ///< infinity is not kept even if there is room.
};

/// What of a model decides whether options suit it.
struct CacheShape {
  size_t layers = 1;         ///< Whose cache is compressed: `LayerObservation::layers`.
  size_t window_layers = 0;  ///< Others, which keep their sliding window whatever the budget.
  size_t kv_heads = 1;
  size_t query_heads = 1;
};

/// Stands for the queries of the whole prompt.
inline constexpr size_t kAllQueries = static_cast<size_t>(-1);

/// An option that a method declares for itself. Methods that share a name must mean the same by it.
struct OwnOption {
  std::string_view name;
  std::string_view values;  ///< "N", "X", "true|false", or the words it takes: "key|value|mean".
  std::string_view help;
  OptionValue initial;  ///< Without being given; its type is the option's.
};

/// An option changes nothing unless another one has a value with which `holds`.
struct OptionCondition {
  std::string_view option;
  std::string_view other;
  bool (*holds)(const CompressionOptions&);
};

/// A compression method: a name, where it comes from, and how it scores.
struct Method {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;  ///< Title and identifier of the source.
  /// Names of the shared options it reads, besides budget. Those of its own are added.
  std::vector<std::string_view> options;
  std::vector<OwnOption> own_options;
  std::vector<OptionCondition> conditions;  ///< Of its own options.
  CompressionOptions defaults;
  /// What the authors use, where that differs.
  std::optional<CompressionOptions> paper_defaults;
  ScoreKind score_kind = ScoreKind::kMass;
  bool allocates = true;  ///< Reads the allocation's options and `critical` too.
  /// Over how many positions to come it averages what it learns of all queries; null: it needs no
  /// `query_statistics`.
  size_t (*future_positions)(const CompressionOptions&) = nullptr;
  /// How many of the last queries it looks at; null means none.
  size_t (*observed_queries)(const CompressionOptions&) = nullptr;
  /// How many of the last attention outputs it has a use for, at most as many as queries; null
  /// means none.
  size_t (*observed_outputs)(const CompressionOptions&) = nullptr;
  /// Whether it reads `LayerObservation::attention_sums`; null means never.
  bool (*needs_attention_sums)(const CompressionOptions&) = nullptr;
  /// Whether it keeps some layers whole, beyond the budget; null means never.
  bool (*keeps_layers)(const CompressionOptions&) = nullptr;
  /// Throws on options it cannot use; the rest of `validate`.
  void (*check)(const CompressionOptions&) = nullptr;
  /// Throws on options it cannot use with a model of this shape; may be null.
  void (*check_shape)(const CompressionOptions&, const CacheShape&) = nullptr;
  /// Whether it reads W_O under these options; null means never.
  bool (*needs_output)(const CompressionOptions&) = nullptr;
  /// Shapes and options are checked when this is called, but n may be anything from 1 on: a layer
  /// of a stream may have been cut deeper than the budget. The caller refuses scores that are not
  /// finite (unless they are ranks) and blames the input that made them so.
  LayerScores (*score)(const LayerObservation&, const CompressionOptions&,
                       SelectionTrace*) = nullptr;
};

/// How a budget is shared out over layers and cache heads.
struct Allocation {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;                 ///< Title and identifier of the source; may be empty.
  std::vector<std::string_view> options;  ///< Names of the options it reads, besides budget.
  /// Throws on options it cannot use or a method it does not suit; may be null.
  void (*check)(const CompressionOptions&, const Method&) = nullptr;
  /// The same for a model of this shape; may be null.
  void (*check_shape)(const CompressionOptions&, const CacheShape&) = nullptr;
  /// How many candidates each cache head keeps, given what a head may keep on average over layers
  /// and heads, its `share`: budget less protected positions. What passes `scores.candidates` is
  /// cut by the caller; the share does where earlier selections left this layer less than others.
  std::vector<size_t> (*allocate)(const LayerObservation&, const LayerScores& scores, size_t share,
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
/// Adds a method to those known by name, from outside the library: `Method` says what it must
/// state. Its texts must outlive the program's use of it. Not while other threads use methods.
/// Throws `Error` (kInvalidArgument) if the name is taken, or a part is missing that every method
/// has.
void register_method(Method method);
/// The defaults of a method; throws like `find_method`.
CompressionOptions default_options(std::string_view method);
/// The values of the method's authors, for comparisons with published figures: those of restkv set
/// kernel 5. Throws like `find_method`.
CompressionOptions paper_options(std::string_view method);
/// Throws `Error` (kInvalidArgument) naming option, value and remedy if the options are unusable
/// for any prompt (budget <= window, even kernel, alpha outside (0, 1], ...).
void validate(const CompressionOptions& options);
/// Throws also if they are unusable for any prompt of a model of this shape: a ladder over more
/// layers than there are, a profile of other layers, ... Where no layer is compressed, all suit.
void validate(const CompressionOptions& options, const CacheShape& shape);
/// What an option that the method declares for itself has been given, or is without. Throws `Error`
/// (kInvalidArgument) if the method has no such option, or another type was given.
bool own_switch(const CompressionOptions& options, std::string_view option);
int own_whole(const CompressionOptions& options, std::string_view option);
double own_real(const CompressionOptions& options, std::string_view option);
/// Which of its words: "mean" is 2 of "key|value|mean".
size_t own_word(const CompressionOptions& options, std::string_view option);

/// Whether the method reads W_O, so that the caller must provide `LayerObservation::output`.
bool needs_output_factor(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::output_weights`.
bool needs_output_weights(const CompressionOptions& options);
/// How many of the last query rows the method looks at: 0 if none, `kAllQueries` if all.
size_t observed_queries(const CompressionOptions& options);
/// How many of the last attention outputs it has a use for.
size_t observed_outputs(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::attention_sums`.
bool needs_attention_sums(const CompressionOptions& options);
/// Whether the caller must provide `LayerObservation::query_statistics` and `future_rotation`.
bool needs_query_statistics(const CompressionOptions& options);
/// Over how many positions to come `future_rotation` is averaged: 0 without one.
size_t future_positions(const CompressionOptions& options);
/// Whether some layers are kept whole, beyond the budget.
bool keeps_layers(const CompressionOptions& options);

/// Which positions each cache head keeps. With n <= budget everything is kept.
/// Throws `Error` (kInvalidArgument) on options that `validate` refuses or shapes that do not fit,
/// `Error` (kInput) on NaN or infinity among queries, keys or values (not looked at if n <= budget
/// or the method never reads them). A token with an attention weight of 1 gets a large but finite
/// score: 1 - a in the reconstruction error is taken to be at least 2^-24.
Selection select_tokens(const LayerObservation& layer, const CompressionOptions& options,
                        SelectionTrace* trace = nullptr);

/// The same for a layer whose cache heads hold different numbers of tokens: one observation per
/// cache head, each of one KV head (or of as many as hold the same positions). The budget is shared
/// out over all of them together. Unlike `select_tokens` it scores short heads too, down to empty
/// ones. Rows of the result count from each head's own first.
Selection select_ragged(std::span<const LayerObservation> heads, const CompressionOptions& options);

}  // namespace restkv
