#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/sparse.h"

namespace restkv {

struct SessionOptions {
  CompressionOptions compression;
  KvType kv_type = KvType::kF16;
  /// Prompts enter in chunks of so many tokens, and the cache is cut back to the budget after each:
  /// peak memory for any length is that of budget + chunk tokens. 0: whole prompts.
  size_t chunk = 0;
  /// While tokens are appended one by one, the cache is cut back to the budget whenever it holds so
  /// many more. 0: it grows.
  size_t interval = 0;
  /// Tokens per KV head that those cuts leave; 0: the budget. More than the method's window.
  int decode_budget = 0;
  /// After each cut the kept tokens are numbered anew, 0, 1, ...: positions never pass budget +
  /// chunk (or + interval), so a session can be longer than the model's context. Without `interval`
  /// an answer cannot: nothing is cut while it is written. Needs the allocation `uniform`. Layers
  /// with a sliding window compute the same with and without. See StreamingLLM (Xiao et al., ICLR
  /// 2024), section 3.2.
  bool compact_positions = false;
  /// Which tiles of a prompt's attention are computed. Not part of a snapshot: it says how prompts
  /// are read, not what a session knows.
  SparseOptions sparse;
};

/// A conversation, or one long document, with a cache that stays small: prompts and single tokens
/// are appended, and the cache is compressed after each prompt that fills it.
///
/// Different sessions may be used from different threads at the same time, one session by one
/// thread at a time. Sessions of one engine share the memory that it works in: besides, each costs
/// its cache.
class Session {
 public:
  /// A session of an engine of its own. The model must outlive the session. Throws `Error`
  /// (kInvalidArgument) on options that cannot be used.
  Session(const Model& model, const SessionOptions& options);
  /// The engine's model must outlive the session; the engine itself need not.
  Session(const Engine& engine, const SessionOptions& options);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Appends tokens, which attend to what the cache holds and to each other; returns the logits [V]
  /// after the last of them, valid until the next call. Costs only its own tokens.
  ///
  /// Throws `Error`: kInvalidArgument (no tokens, positions beyond the model's context, both before
  /// anything is read; ids outside the vocabulary), kInput (the model computes NaN, or keys and
  /// values that half precision cannot hold), kInterrupted. Tokens of a prompt that could not be
  /// finished are then in the cache in part: go back to a fork, or start again.
  std::span<const float> append(std::span<const int32_t> tokens,
                                const ProgressCallback& progress = {});
  std::span<const float> append(int32_t token) { return append({&token, 1}); }

  /// The same in steps, between which other sessions may be appended to. Throws `Error`
  /// (kInvalidArgument) as `append` does, before anything is read.
  class Prompt;
  [[nodiscard]] Prompt begin(std::span<const int32_t> tokens);

  /// Appends one token to each of several sessions of one engine, which may differ in everything;
  /// their `logits` then follow it. The weights are read and unpacked once for all. What a session
  /// gets does not depend on the others, but differs by a rounding from what `append` alone gives,
  /// which rounds activations to meet stored weights. Throws `Error` as `append` does, and
  /// kInvalidArgument for sessions of different engines, more than `Engine::kMaxBatch`, or one that
  /// occurs twice.
  ///
  /// `failures`: none, or one for each session, null. There goes what is wrong with one session
  /// alone (kInput); it is then of no use any more, and the others go on.
  static void append_together(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                              std::span<std::exception_ptr> failures = {});

  /// How many single tokens could be appended after a prompt of so many before their positions
  /// would pass the model's context; `kUnlimited` where cuts keep making room. None: the prompt
  /// itself does not fit.
  [[nodiscard]] std::optional<size_t> room_after(size_t prompt_tokens) const;
  static constexpr size_t kUnlimited = static_cast<size_t>(-1);

  /// Logits [V] after the last token; empty before the first.
  [[nodiscard]] std::span<const float> logits() const;

  /// Cuts the cache to the budget now, if it holds more: at the end of an answer, for instance.
  void compress();
  /// Another budget from the next compression on. Throws `Error` (kInvalidArgument), and changes
  /// nothing, if the method cannot use it with this model, or keeps everything.
  void set_budget(int budget);

  /// Another sparse pattern for the prompts to come. Throws `Error` (kInvalidArgument), and changes
  /// nothing, on options that cannot be used.
  void set_sparse(const SparseOptions& options);

  /// A second session of the same engine that goes on from here by itself.
  [[nodiscard]] Session fork() const;

  /// Writes the session into a file, from which `load` goes on with exactly the same results. The
  /// file appears whole or not at all. `note`: any text to be kept with it. Format: docs/design.md.
  /// Throws `Error` (kIo) if it cannot be written; an old file is then still there.
  void save(const std::string& path, std::string_view note = {}) const;
  /// The session that was saved in a file, with its options, and its note. Throws `Error` naming
  /// the file and the cause: kInput (missing, damaged, or of another model), kUnsupported (written
  /// by a newer version).
  static Session load(const Model& model, const std::string& path, std::string* note = nullptr);
  static Session load(const Engine& engine, const std::string& path, std::string* note = nullptr);

  [[nodiscard]] const SessionOptions& options() const;
  [[nodiscard]] const KvCache& cache() const;
  /// Tokens appended so far.
  [[nodiscard]] size_t tokens() const;
  /// Bytes that it holds between calls: the cache, and what later compressions need to know.
  [[nodiscard]] size_t allocated_bytes() const;
  /// Scoring, selection and gathering, in all.
  [[nodiscard]] double compress_seconds() const;
  /// What sparse prefill left out since the session, this fork of it, or its pattern began.
  [[nodiscard]] const SparseReport& sparse_report() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A prompt on its way into a session, which must outlive it and must not be used otherwise until
/// the prompt is complete; then its logits follow it. Prompts of several sessions of an engine may
/// be under way at once, each with the memory that a prompt takes, while others are decoded. A
/// session whose prompt is given up before its end is of no use any more.
class Session::Prompt {
 public:
  ~Prompt();
  Prompt(Prompt&&) noexcept;
  Prompt& operator=(Prompt&&) noexcept;

  /// Sends up to 512 tokens through one layer. False: the prompt is complete. Throws `Error` as
  /// `append` does; the prompt cannot go on after that.
  bool step();
  /// Share of the work done, 0 to 1.
  [[nodiscard]] double done() const;

 private:
  friend class Session;
  struct Impl;
  explicit Prompt(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv
