#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/repeat.h"
#include "restkv/sparse.h"
#include "restkv/views.h"

namespace restkv {

struct SessionOptions {
  CompressionOptions compression;
  KvType kv_type = KvType::kF16;
  /// Prompts are read in chunks of this many tokens, and the cache is cut to the budget after each.
  /// Peak memory is then that of budget + chunk tokens. 0: whole prompts.
  size_t chunk = 0;
  /// While tokens are appended one by one, the cache is cut to the budget whenever it holds this
  /// many more. 0: no cuts.
  size_t interval = 0;
  /// Tokens per KV head after the cuts of `interval`; 0: the budget. Must exceed the method's
  /// window.
  int decode_budget = 0;
  /// After each cut the kept tokens get the positions 0, 1, ... (StreamingLLM, Xiao et al., ICLR
  /// 2024, section 3.2). Positions stay below budget + chunk (or + interval), so a session can be
  /// longer than the model's context. An answer can be so only with `interval`. Needs the
  /// allocation `uniform`. Layers with a sliding window compute the same results either way.
  bool compact_positions = false;
  /// What is said around a prompt that the model repeats, for methods that need it.
  std::optional<RepeatPrompt> repeat;
  /// Sparse pattern of prompts. It is not part of a snapshot.
  SparseOptions sparse;
};

/// Receives logits [rows, V] of those tokens of a prompt that begin with number `first`. They are
/// valid during the call.
using PromptLogits = std::function<void(size_t first, Matrix<const float> logits)>;

/// How far a prompt goes in one step. The results are the same.
enum class Stride {
  kBlock,  ///< Up to 512 tokens through one layer: the fastest.
  kPart,   ///< One of the parts of that, a fifth or less: others wait for milliseconds only.
};

/// A conversation or a long document over one compressed cache. Prompts and single tokens are
/// appended, and the cache is compressed after each prompt that exceeds the budget.
///
/// Different sessions may be used from different threads at the same time, each by one thread at a
/// time. Sessions of one engine share its working memory; each costs its cache besides.
class Session {
 public:
  /// A session with a separate engine. The model must outlive the session. Throws `Error`
  /// (kInvalidArgument) on options that cannot be used.
  Session(const Model& model, const SessionOptions& options);
  /// The engine's model must outlive the session; the engine itself need not.
  Session(const Engine& engine, const SessionOptions& options);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Appends tokens, which attend to the cache and causally to each other. Returns the logits [V]
  /// after the last of them, valid until the next call. Computes only the new tokens.
  ///
  /// Throws `Error`: kInvalidArgument (no tokens, positions beyond the model's context, ids outside
  /// the vocabulary, an incomplete prompt: all checked before the work), kInput (the model computes
  /// NaN, or keys and values overflow half precision), kInterrupted. After an error during the work
  /// the cache holds a part of the prompt: continue with an earlier fork or a new session.
  std::span<const float> append(std::span<const int32_t> tokens,
                                const ProgressCallback& progress = {});
  std::span<const float> append(int32_t token) { return append({&token, 1}); }

  /// The same in steps, between which other sessions may be appended to. Throws `Error`
  /// (kInvalidArgument) as `append` does, before anything is read.
  ///
  /// `logits`: who gets the logits after each token, `kLogitsRows` at a time, in order; empty:
  /// nobody. They are those of the prompt before the cut that follows it; in chunks, each chunk
  /// sees what the cuts before it have left. What `logits` throws, `step` throws.
  class Prompt;
  [[nodiscard]] Prompt begin(std::span<const int32_t> tokens, PromptLogits logits = {});
  static constexpr size_t kLogitsRows = 128;

  /// Appends one token to each of several sessions of one engine and updates their `logits`.
  /// Options and lengths may differ. Weights are read once for all. A session's logits are those of
  /// `append`, whatever the others are; only a session's first token of all is rounded otherwise,
  /// which `append` reads as a prompt. Throws `Error` as `append` does, and kInvalidArgument for
  /// sessions of different engines, more than `Engine::kMaxBatch` sessions, or a repeated one.
  ///
  /// `failures`: empty, or a null pointer for each session; others are refused. An error of one
  /// session alone (kInput) goes there; it cannot be used any more, and the others go on.
  static void append_together(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                              std::span<std::exception_ptr> failures = {});

  /// Number of single tokens that fit into the model's context after a prompt of `prompt_tokens`;
  /// `kUnlimited` if cuts keep making room. None: the prompt itself does not fit.
  [[nodiscard]] std::optional<size_t> room_after(size_t prompt_tokens) const;
  static constexpr size_t kUnlimited = static_cast<size_t>(-1);

  /// Logits [V] after the last token; empty before the first, and of a `fork_beginning`.
  [[nodiscard]] std::span<const float> logits() const;

  /// Cuts the cache to the budget now if it holds more, for instance at the end of an answer.
  void compress();
  /// Sets the budget of the next compressions. Throws `Error` (kInvalidArgument) and changes
  /// nothing if the method cannot use it with this model, or keeps everything.
  void set_budget(int budget);

  /// The next `tokens` come on top of what the cache holds, whatever the budget: no cut is due
  /// before they are there. The first cut after them, or `compress`, ends this; another call
  /// replaces it, and it is not part of a snapshot. For questions about a text whose compression
  /// is to stay as it is.
  void reserve(size_t tokens);

  /// Sets the sparse pattern of the next prompts. Throws `Error` (kInvalidArgument) and changes
  /// nothing on options that cannot be used.
  void set_sparse(const SparseOptions& options);

  /// An independent copy that uses the same engine.
  [[nodiscard]] Session fork() const;

  /// How many of its first tokens a copy can begin with, if they are the first `common` of a text
  /// of `total` tokens and the copy is to know, up to the rounding of stored rows, what a new
  /// session would know that reads the text. 0: none; the cache was cut, a sliding window has moved
  /// on, the prompt was sparse, or the method collects something from all tokens while they are
  /// read. Fewer than `common`: cuts look back on the last queries, which have to be read again,
  /// and chunks begin where they would.
  [[nodiscard]] size_t reusable_tokens(size_t common, size_t total) const;
  /// A copy that has read only the first `tokens` of these. It has no logits and cannot be saved
  /// before something is appended. Throws `Error` (kInvalidArgument) if the cache does not hold all
  /// of them.
  [[nodiscard]] Session fork_beginning(size_t tokens) const;

  /// Writes the session to a file; a loaded session continues with exactly the same results. The
  /// file appears whole or not at all. `note`: any text to store with it. Format: docs/design.md.
  /// Throws `Error`: kIo if the file cannot be written (an old file then remains), kInvalidArgument
  /// if `path` is an existing file that is no saved session, or the session is a `fork_beginning`
  /// to which nothing was appended.
  void save(const std::string& path, std::string_view note = {}) const;
  /// Loads a saved session with its options and note. Throws `Error` naming the file and the cause:
  /// kInput (missing, damaged, or of another model), kUnsupported (written by a newer version, or
  /// by one too old).
  static Session load(const Model& model, const std::string& path, std::string* note = nullptr);
  static Session load(const Engine& engine, const std::string& path, std::string* note = nullptr);

  [[nodiscard]] const SessionOptions& options() const;
  [[nodiscard]] const KvCache& cache() const;
  /// Tokens appended so far.
  [[nodiscard]] size_t tokens() const;
  /// Bytes that the session holds between calls: its cache, and the state of later compressions.
  [[nodiscard]] size_t allocated_bytes() const;
  /// Seconds of scoring, selection and gathering so far.
  [[nodiscard]] double compress_seconds() const;
  /// Tiles that sparse prefill skipped, counted from the start of the session or fork, or from the
  /// last `set_sparse`.
  [[nodiscard]] const SparseReport& sparse_report() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A prompt on its way into a session, which must outlive it; then its logits follow it. Between
/// its first step and its end, all functions of the session that read, change or copy its cache
/// throw `Error` (kInvalidArgument), and so does a step of another prompt; for good if the prompt
/// fails or is given up. Prompts of several sessions of an engine may be under way at once, each
/// with the memory that a prompt takes, while others are decoded.
class Session::Prompt {
 public:
  ~Prompt();
  Prompt(Prompt&&) noexcept;
  Prompt& operator=(Prompt&&) noexcept;

  /// Sends tokens through one layer as far as `stride` says, or hands out logits of `kLogitsRows`.
  /// False: the prompt is complete. Throws `Error` as `append` does; the prompt cannot go on after
  /// that.
  bool step(Stride stride = Stride::kBlock);
  /// Share of the work done, 0 to 1.
  [[nodiscard]] double done() const;

 private:
  friend class Session;
  struct Impl;
  explicit Prompt(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv
