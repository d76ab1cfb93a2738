#include "restkv/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "engine/checks.h"
#include "engine/decode.h"
#include "engine/engine_impl.h"
#include "engine/evict.h"
#include "engine/follow.h"
#include "engine/prefill.h"
#include "engine/snapshot.h"
#include "model/forward.h"
#include "model/weights.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Sessions have numbers, by which the processes that share a model speak of them.
std::atomic<uint64_t> g_sessions{0};

void refuse_snapshot_if_shared(const Model& model, const std::string& path) {
  if (model.weights().communicator->size() == 1) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: several processes that share a model cannot save or load sessions "
                          "yet; run it as one process",
                          path));
}

}  // namespace

struct Session::Impl {
  /// `of`: the session that the new one copies; null: none.
  Impl(std::shared_ptr<Engine::Impl> in, const SessionOptions& options, const Impl* of = nullptr)
      : engine(std::move(in)), model(engine->model), sparse(model.config()) {
    refuse_sparse_if_shared(model, options.sparse);
    sequence.options = options;
    begin_sequence(model, sequence);
    sparse.set(options.sparse);
    if (of == nullptr) {
      lead(SessionCall::kBegin, [&](ByteWriter& out) { write_session_options(options, out); });
    } else {
      sequence = of->sequence;
      lead(SessionCall::kCopy, [&](ByteWriter& out) { out.number(of->number); });
    }
  }
  ~Impl() { lead_at_end(SessionCall::kEnd); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  /// Tells the other processes that share the model; see follow.h.
  template <class... Write>
  void lead(SessionCall call, const Write&... write) const {
    restkv::lead(model, call, number, write...);
  }
  /// The same, unless an exception ends everything: nobody knows then where the others are.
  void lead_at_end(SessionCall call) const noexcept {
    if (std::uncaught_exceptions() == 0) lead(call);
  }

  /// Whether evictions renumber positions.
  [[nodiscard]] bool renumbers() const {
    return sequence.options.compact_positions && sequence.evicts();
  }
  [[nodiscard]] size_t context() const { return model.config().context_length; }
  [[nodiscard]] size_t chunk(size_t tokens) const {
    const size_t chunk = sequence.options.chunk;
    return chunk > 0 ? chunk : std::max<size_t>(1, tokens);
  }
  /// A single token after others is decoded.
  [[nodiscard]] bool decodes(size_t tokens) const { return tokens == 1 && sequence.tokens > 0; }

  /// Position of the next token after `tokens` more; none if they do not fit.
  [[nodiscard]] std::optional<size_t> position_after(size_t tokens) const {
    size_t position = sequence.cache.next_position;
    for (size_t done = 0; done < tokens;) {
      const size_t count = std::min(chunk(tokens), tokens - done);
      if (position > context() || count > context() - position) return std::nullopt;
      position += count;
      done += count;
      if (decodes(tokens)) {
        if (renumbers() && position >= sequence.eviction_due_at()) {
          position = static_cast<size_t>(sequence.decode_budget());
        }
      } else if (const auto budget = static_cast<size_t>(sequence.options.compression.budget);
                 renumbers() && position > std::max(budget, sequence.reserved)) {
        position = budget;
      }
    }
    return position;
  }

  /// Throws unless the tokens that repeat a part of the prompt fit behind it.
  void check_repeat(size_t tokens) const {
    const SessionOptions& options = sequence.options;
    const size_t repeated = repeat_chunk(options.compression);
    if (repeated == 0 || sequence.has_room_for(tokens)) return;
    const size_t next = sequence.cache.next_position;
    size_t end = next + tokens;
    if (renumbers()) {
      const size_t budget =
          std::max(static_cast<size_t>(options.compression.budget), sequence.reserved);
      end = std::min(end, std::max(next, budget) + chunk(tokens));
    }
    const size_t longest = std::min(tokens, chunk(tokens));  // each chunk is repeated by itself
    check_repeat_length(model.config(), end, longest_feed(longest, repeated, *options.repeat));
  }

  [[noreturn]] void refuse_length(size_t tokens) const {
    const size_t position = sequence.cache.next_position;
    std::string remedy =
        "shorten them, use a model with a longer context, or number kept tokens "
        "anew (compact_positions) and read in chunks";
    if (sequence.options.compact_positions && !sequence.evicts()) {
      remedy = "method full drops nothing to make room; choose another";
    } else if (renumbers() && decodes(tokens)) {
      remedy = "cut the cache while tokens are appended one by one (interval)";
    } else if (renumbers()) {
      remedy = "read in chunks that fit beside the budget (chunk), or lower the budget";
    }
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} tokens from position {} on exceed the model's context of {}; {}",
                            tokens, position, context(), remedy));
  }

  /// Throws unless every prompt that was begun is complete: the layers hold different tokens then.
  void require_complete() const {
    if (!in_prompt) return;
    throw Error(ErrorCode::kInvalidArgument,
                "a prompt of this session was begun and is not complete; complete it first, or go "
                "on with a new session or an earlier fork");
  }

  const uint64_t number = g_sessions++;
  std::shared_ptr<Engine::Impl> engine;
  const Model& model;
  Sequence sequence;
  SparsePrefill sparse;
  bool in_prompt = false;  ///< A prompt is under way, or was given up.
};

Session::Session(const Model& model, const SessionOptions& options)
    : Session(Engine(model), options) {}
Session::Session(const Engine& engine, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(engine.impl_, options)) {}
Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

struct Session::Prompt::Impl {
  Impl(Session::Impl& of, std::span<const int32_t> all, PromptLogits hears)
      : session(of),
        tokens(all.begin(), all.end()),
        chunk(of.chunk(all.size())),
        decodes(of.decodes(all.size())),
        hears_logits(std::move(hears)) {
    session.lead(SessionCall::kPrompt, [&](ByteWriter& out) {
      out.array(all);
      out.number<uint8_t>(hears_logits ? 1 : 0);
    });
  }
  // Whose workspace it was last, nobody knows.
  ~Impl() {
    if (prefill) prefill->work_in(nullptr);
    session.lead_at_end(SessionCall::kEndPrompt);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] size_t in_chunk() const { return std::min(chunk, tokens.size() - read); }

  bool step(Workspace& workspace, Stride stride) {
    if (read == tokens.size()) return false;
    Sequence& sequence = session.sequence;
    if (!under_way) session.require_complete();
    session.lead(SessionCall::kStep,
                 [&](ByteWriter& out) { out.number(static_cast<uint8_t>(stride)); });
    if (decodes) {
      decode(session.model, workspace, tokens[0], sequence);
      read = 1;
      if (hears_logits) hears_logits(0, {sequence.logits.data(), 1, sequence.logits.size()});
      return false;
    }
    session.in_prompt = under_way = true;
    if (!prefill) {
      sink.emplace(session.model, workspace, sequence, in_chunk());
      prefill.emplace(session.model, workspace, std::span(tokens).subspan(read, in_chunk()), *sink,
                      session.sparse, hears_logits ? in_chunk() : 1);
    }
    sink->work_in(workspace);
    prefill->work_in(&workspace);
    if (logits.empty()) {
      if (prefill->step(stride)) return true;
      prefill->last_logits(sequence.logits);
      if (hears_logits) {
        logits.resize(std::min(kLogitsRows, in_chunk()) * sequence.logits.size());
        return true;
      }
    } else if (hand_out_logits()) {
      return true;
    }
    prefill.reset();
    sink.reset();
    logits = AlignedVector<float>();  // `= {}` would keep its capacity
    handed_out = 0;
    read += in_chunk();
    session.in_prompt = read < tokens.size();
    return session.in_prompt;
  }

  /// False: the chunk has no more.
  bool hand_out_logits() {
    const size_t rows = std::min(kLogitsRows, in_chunk() - handed_out);
    const Matrix<float> block(logits.data(), rows, session.model.config().vocabulary);
    prefill->logits(handed_out, block);
    hears_logits(read + handed_out, block);
    handed_out += rows;
    return handed_out < in_chunk();
  }

  [[nodiscard]] double done() const {
    double part = 0;
    if (prefill) {
      part = prefill->done() * static_cast<double>(in_chunk());
      if (hears_logits) {  // is as one more layer
        const auto layers = static_cast<double>(session.model.config().layers);
        part = (part * layers + static_cast<double>(handed_out)) / (layers + 1);
      }
    }
    return (static_cast<double>(read) + part) / static_cast<double>(tokens.size());
  }

  Session::Impl& session;
  std::vector<int32_t> tokens;
  size_t chunk;
  bool decodes;  ///< Known at the beginning: reading the first token of all makes no second one.
  PromptLogits hears_logits;
  bool under_way = false;
  size_t read = 0;  ///< Tokens of complete chunks.
  // Of the chunk in the works:
  std::optional<SequenceSink> sink;
  std::optional<Prefill> prefill;
  AlignedVector<float> logits;  ///< To be handed out; empty while it goes through the layers.
  size_t handed_out = 0;        ///< Tokens whose logits have been.
};

Session::Prompt::Prompt(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Prompt::~Prompt() = default;
Session::Prompt::Prompt(Prompt&&) noexcept = default;
Session::Prompt& Session::Prompt::operator=(Prompt&&) noexcept = default;

bool Session::Prompt::step(Stride stride) {
  const Engine::Impl::Lease workspace(*impl_->session.engine);
  return impl_->step(*workspace, stride);
}

double Session::Prompt::done() const { return impl_->done(); }

Session::Prompt Session::begin(std::span<const int32_t> tokens, PromptLogits logits) {
  impl_->require_complete();
  if (tokens.empty()) check_length(impl_->model.config(), 0, 0);
  if (!impl_->position_after(tokens.size())) impl_->refuse_length(tokens.size());
  if (!impl_->decodes(tokens.size())) impl_->check_repeat(tokens.size());
  check_tokens(impl_->model, tokens);
  return Prompt(std::make_unique<Prompt::Impl>(*impl_, tokens, std::move(logits)));
}

namespace {

void lead_tokens(const Model& model, std::span<const uint64_t> sessions,
                 std::span<const int32_t> tokens) {
  lead(model, SessionCall::kTokens, 0, [&](ByteWriter& out) {
    out.array(sessions);
    out.array(tokens);
  });
}

}  // namespace

std::span<const float> Session::append(std::span<const int32_t> tokens,
                                       const ProgressCallback& progress) {
  if (impl_->decodes(tokens.size())) {  // allocates nothing
    impl_->require_complete();
    if (!impl_->position_after(1)) impl_->refuse_length(1);
    check_tokens(impl_->model, tokens);
    lead_tokens(impl_->model, {&impl_->number, 1}, tokens);
    const Engine::Impl::Lease workspace(*impl_->engine);
    decode(impl_->model, *workspace, tokens[0], impl_->sequence);
    return impl_->sequence.logits;
  }
  const Prompt prompt = begin(tokens);
  const Engine::Impl::Lease workspace(*impl_->engine);
  for (bool more = true; more;) {
    more = prompt.impl_->step(*workspace, Stride::kBlock);
    if (progress && !progress(prompt.done())) {
      throw Error(ErrorCode::kInterrupted, "interrupted while reading the prompt");
    }
  }
  return impl_->sequence.logits;
}

void Session::append_together(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                              std::span<std::exception_ptr> failures) {
  if (sessions.empty() || sessions.size() != tokens.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} tokens for {} sessions; name one for each", tokens.size(),
                            sessions.size()));
  }
  if (!failures.empty() && failures.size() != sessions.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} places for the failures of {} sessions; give one for each, or none",
                            failures.size(), sessions.size()));
  }
  for (size_t i = 0; i < failures.size(); ++i) {
    if (failures[i] == nullptr) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the place for the failure of session {} holds one already; leave out "
                            "sessions that have failed, and set the places of the others to null",
                            i));
  }
  std::vector<Sequence*> sequences;
  for (const Session* session : sessions) {
    Impl& impl = *session->impl_;
    if (impl.engine != sessions[0]->impl_->engine) {
      throw Error(ErrorCode::kInvalidArgument, "sessions that decode together need one engine");
    }
    if (std::ranges::find(sequences, &impl.sequence) != sequences.end()) {
      throw Error(ErrorCode::kInvalidArgument, "a session cannot get two tokens at once");
    }
    impl.require_complete();
    if (!impl.position_after(1)) impl.refuse_length(1);
    sequences.push_back(&impl.sequence);
  }
  Engine::Impl& engine = *sessions[0]->impl_->engine;
  if (leads(engine.model)) {
    check_tokens(engine.model, tokens);
    std::vector<uint64_t> numbers;
    for (const Session* session : sessions) numbers.push_back(session->impl_->number);
    lead_tokens(engine.model, numbers, tokens);
  }
  const Engine::Impl::Lease workspace(engine);
  decode(engine.model, *workspace, tokens, sequences, failures);
}

std::optional<size_t> Session::room_after(size_t prompt_tokens) const {
  const std::optional<size_t> position = impl_->position_after(prompt_tokens);
  if (!position || *position > impl_->context()) return std::nullopt;
  const size_t room = impl_->context() - *position;
  const bool renewed =
      impl_->renumbers() && room > 0 && impl_->sequence.eviction_due_at() <= impl_->context();
  return renewed ? kUnlimited : room;
}

std::span<const float> Session::logits() const { return impl_->sequence.logits; }

void Session::compress() {
  Sequence& sequence = impl_->sequence;
  impl_->require_complete();
  if (sequence.tokens == 0) return;
  impl_->lead(SessionCall::kCompress);
  sequence.reserved = 0;
  const Engine::Impl::Lease workspace(*impl_->engine);
  evict(impl_->model, *workspace, sequence, sequence.options.compression.budget);
}

void Session::set_budget(int budget) {
  impl_->require_complete();
  CompressionOptions changed = impl_->sequence.options.compression;
  if (changed.method == "full") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a budget of {} has no effect on method full, which keeps everything; "
                            "begin anew with another method",
                            budget));
  }
  changed.budget = budget;
  validate(changed, impl_->model.config().cache_shape());
  require_repeat_prompt(changed, impl_->sequence.options.repeat);
  impl_->lead(SessionCall::kBudget, [&](ByteWriter& out) { out.number<int32_t>(budget); });
  impl_->sequence.options.compression = std::move(changed);
}

void Session::reserve(size_t tokens) {
  impl_->require_complete();
  impl_->lead(SessionCall::kReserve, [&](ByteWriter& out) { out.number<uint64_t>(tokens); });
  Sequence& sequence = impl_->sequence;
  sequence.reserved = sequence.filled() + std::min(tokens, kUnlimited - 1 - sequence.filled());
}

void Session::set_sparse(const SparseOptions& options) {
  impl_->require_complete();
  refuse_sparse_if_shared(impl_->model, options);
  impl_->sparse.set(options);
  impl_->sequence.options.sparse = options;
}

Session Session::fork() const {
  impl_->require_complete();
  return Session(std::make_unique<Impl>(impl_->engine, impl_->sequence.options, impl_.get()));
}

size_t Session::reusable_tokens(size_t common, size_t total) const {
  const Sequence& sequence = impl_->sequence;
  if (impl_->model.weights().communicator->size() > 1) return 0;
  const CompressionOptions& compression = sequence.options.compression;
  if (sequence.options.sparse.pattern != "dense" || needs_attention_sums(compression) ||
      needs_query_statistics(compression) || repeat_chunk(compression) > 0 ||
      watched_tokens(compression) != WatchedTokens::kNone) {
    return 0;
  }
  for (size_t layer = 0; layer < sequence.cache.layers(); ++layer) {
    for (const CachedHead& head : sequence.cache.heads(layer)) {
      if (head.count != sequence.tokens) return 0;
    }
  }
  const size_t chunk = sequence.options.chunk;
  const size_t observed = sequence.evicts() ? observed_queries(compression) : 0;
  if (chunk > 0 && chunk < observed) return 0;
  // At least one token is read: logits are those after the last one.
  const size_t read_again = std::min(total, std::max<size_t>(observed, 1));
  const size_t most = std::min({common, sequence.tokens, total - read_again});
  return chunk > 0 ? most - most % chunk : most;
}

Session Session::fork_beginning(size_t tokens) const {
  impl_->require_complete();
  if (impl_->model.weights().communicator->size() > 1) {
    throw Error(ErrorCode::kUnsupported,
                "several processes that share a model cannot begin a session with a part of "
                "another one yet; read the text again");
  }
  auto copy = std::make_unique<Impl>(impl_->engine, impl_->sequence.options);
  Sequence& sequence = copy->sequence;
  sequence.cache = impl_->sequence.cache.first_rows(tokens);
  sequence.tokens = tokens;
  sequence.cached_tokens = tokens;
  return Session(std::move(copy));
}

void Session::save(const std::string& path, std::string_view note) const {
  impl_->require_complete();
  refuse_snapshot_if_shared(impl_->model, path);
  if (impl_->sequence.tokens > 0 && impl_->sequence.logits.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the session is the beginning of another one and has no logits; "
                            "append a token before it is saved",
                            path));
  }
  save_snapshot(impl_->model, impl_->sequence, note, path);
}

Session Session::load(const Model& model, const std::string& path, std::string* note) {
  return load(Engine(model), path, note);
}

Session Session::load(const Engine& engine, const std::string& path, std::string* note) {
  refuse_snapshot_if_shared(engine.model(), path);
  Snapshot snapshot = load_snapshot(engine.model(), path);
  std::unique_ptr<Impl> impl;
  try {
    impl = std::make_unique<Impl>(engine.impl_, snapshot.sequence.options);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) throw;
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", path, e.what()));
  }
  impl->sequence = std::move(snapshot.sequence);
  if (note != nullptr) *note = std::move(snapshot.note);
  return Session(std::move(impl));
}

const SessionOptions& Session::options() const { return impl_->sequence.options; }
const KvCache& Session::cache() const { return impl_->sequence.cache; }
size_t Session::tokens() const { return impl_->sequence.tokens; }
size_t Session::allocated_bytes() const {
  const Sequence& sequence = impl_->sequence;
  size_t bytes = sequence.cache.allocated_bytes() + sequence.logits.capacity() * sizeof(float);
  for (const LayerState& layer : sequence.layers) bytes += layer.allocated_bytes();
  return bytes;
}
double Session::compress_seconds() const { return impl_->sequence.compress_seconds; }
const SparseReport& Session::sparse_report() const { return impl_->sparse.report(); }

}  // namespace restkv
