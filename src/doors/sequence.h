#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "doors/settings.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/generate.h"
#include "restkv/model.h"
#include "restkv/session.h"
#include "restkv/threads.h"
#include "restkv/tokenizer.h"

/// Models and sequences for programs in other languages, which may free them in any order, call
/// them from any thread, and fork the process.
namespace restkv::doors {

/// The pool that arrays are computed with. Each process has a separate one.
std::shared_ptr<ThreadPool> shared_threads();
/// Replaces it; computations under way keep the old one. Throws `Error` (kInvalidArgument) if
/// negative; 0 is one thread per processor.
void set_shared_threads(int threads);

/// A share of a prompt keeps no fewer tokens, or all: what is cut from a note of a few lines would
/// save nothing, and most methods could not use what is left.
inline constexpr int kLeastShare = 64;

/// A model with its engine, threads and tokenizer.
class LoadedModel {
 public:
  /// `threads`: 0 is one per processor. Throws as `Model` does.
  LoadedModel(const std::string& path, const ModelOptions& options, int threads);
  ~LoadedModel();
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  [[nodiscard]] const Model& model() const { return *model_; }
  [[nodiscard]] const Engine& engine() const { return *engine_; }
  [[nodiscard]] int threads() const { return pool_->threads(); }
  /// Read at the first call. Throws `Error` (kInput) if the file has no vocabulary.
  [[nodiscard]] const Tokenizer& tokenizer() const;
  /// Throws `Error` (kInvalidArgument) in a process that was forked after the model was loaded: its
  /// threads are not there.
  void require_same_process() const;

 private:
  std::shared_ptr<ThreadPool> pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  mutable std::mutex tokenizer_mutex_;
  mutable std::unique_ptr<Tokenizer> tokenizer_;
  pid_t process_;
};

/// A sequence of tokens with a compressed cache: bare tokens, a conversation, or a document and a
/// question about it.
///
/// A function that reads a prompt and throws leaves it as it was before. Only one function of a
/// sequence may run at a time; a second one, also if it is called from a callback of the first,
/// throws `Error` (kInvalidArgument), as all do while an `Answer` is being written.
class Sequence {
 public:
  /// An empty one. `notices` gets a sentence for each setting without effect. Throws `Error`
  /// (kInvalidArgument) on settings that cannot be used.
  static std::unique_ptr<Sequence> begin(std::shared_ptr<const LoadedModel> model,
                                         const SequenceSettings& settings,
                                         std::vector<std::string>& notices);
  /// Throws as `Session::load` does.
  static std::unique_ptr<Sequence> load(std::shared_ptr<const LoadedModel> model,
                                        const std::string& path);
  ~Sequence();

  [[nodiscard]] const LoadedModel& model() const { return *model_; }
  [[nodiscard]] const std::shared_ptr<const LoadedModel>& shared_model() const { return model_; }

  /// Appends tokens. Throws as `Session::append` does, and kInvalidArgument for a conversation.
  void append(std::span<const int32_t> tokens, const ProgressCallback& progress = {});
  /// Reads a document, about which `ask` asks afterwards. The sequence must be empty.
  void read_document(const std::string& text, const ProgressCallback& progress = {});
  /// Reads the user's next message, or the question about the document.
  void ask(const std::string& text, const ProgressCallback& progress = {});
  /// Reads whole messages of a chat, the last of them the user's. The sequence must be empty.
  void read_chat(std::span<const ChatMessage> messages, const ProgressCallback& progress = {});

  [[nodiscard]] std::unique_ptr<Sequence> fork() const;
  void save(const std::string& path) const;
  void compress();
  void set_budget(int budget);

  struct Stats {
    size_t tokens = 0;         ///< Appended so far.
    double kept = 0;           ///< Tokens per KV head, on average over the layers that are cut.
    size_t kv_bytes = 0;       ///< Of the kept keys and values.
    size_t full_kv_bytes = 0;  ///< Of all tokens in half precision.
    size_t allocated_bytes = 0;
    double compress_seconds = 0;
    bool is_document = false;
    bool is_conversation = false;
  };
  [[nodiscard]] Stats stats() const;
  /// Logits [V] after the last token; empty before the first.
  [[nodiscard]] std::vector<float> logits() const;

  /// Appends one token to each of several sequences of one model, reading its weights once.
  static void append_together(std::span<Sequence* const> sequences,
                              std::span<const int32_t> tokens);

 private:
  friend class Answer;
  class Use;
  struct Document {
    std::string system;
    bool asked = false;
  };
  Sequence(std::shared_ptr<const LoadedModel> model, Session session);

  /// Appends a prompt; all is as before if that fails.
  void read(std::vector<int32_t> tokens, const ProgressCallback& progress);
  [[nodiscard]] bool is_empty() const { return session_.tokens() == 0 && unread_.empty(); }
  [[nodiscard]] Conversation new_conversation() const;
  [[nodiscard]] std::string note() const;

  std::shared_ptr<const LoadedModel> model_;
  Session session_;
  std::optional<Budget> share_;  ///< Of the first prompt; at least `kLeastShare` tokens.
  std::string system_;
  std::variant<std::monostate, Conversation, Document> content_;
  std::vector<int32_t> unread_;  ///< The end of an answer, which the next tokens follow.
  mutable std::atomic<bool> busy_{false};
  bool answering_ = false;
};

/// An answer that is being written. Ends when it is destroyed.
class Answer {
 public:
  /// The sequence must have been read into, and no other answer be on its way. Throws as
  /// `validate(GenerationOptions)` does. `options.on_text` is not used.
  Answer(std::shared_ptr<Sequence> sequence, GenerationOptions options);
  ~Answer();
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  /// The next piece of text, whole UTF-8 characters; none at the end.
  std::optional<std::string> next();
  /// Ends it here.
  void stop();
  [[nodiscard]] bool ended() const { return ended_; }
  /// Complete after the end.
  [[nodiscard]] const GenerationResult& result() const { return result_; }

  /// Writes answers of sequences of one model together, `Engine::kMaxBatch` at a time. `on_text`
  /// gets the number of the answer and its next piece, and returns whether they shall go on.
  static void write_together(std::span<const std::unique_ptr<Answer>> answers,
                             const std::function<bool(size_t, std::string_view)>& on_text);

 private:
  /// Ends it as `generation_` says.
  void finish();

  std::shared_ptr<Sequence> sequence_;
  size_t read_;  ///< Tokens of the sequence before the answer.
  std::string piece_;
  std::optional<Generation> generation_;
  GenerationResult result_;
  bool ended_ = false;
};

}  // namespace restkv::doors
