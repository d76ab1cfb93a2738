#include "restkv/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/snapshot.h"
#include "restkv/error.h"

namespace restkv {

struct Session::Impl {
  Impl(const Model& m, const SessionOptions& options) : model(m), engine(m) {
    state.options = options;
    CacheStream& stream = state.stream;
    stream.request.options = options.compression;
    stream.request.kv_type = options.kv_type;
    stream.compact_positions = options.compact_positions;
    engine.start(stream);
    engine.set_sparse(options.sparse);
    CompressionOptions decoding = options.compression;
    decoding.budget = decode_budget();
    try {
      validate(decoding, m.config().cache_shape());
    } catch (const Error& e) {
      if (options.decode_budget == 0) throw;
      throw Error(e.code(), fmt::format("while tokens are decoded: {}", e.what()));
    }
  }

  [[nodiscard]] int decode_budget() const {
    const SessionOptions& options = state.options;
    return options.decode_budget != 0 ? options.decode_budget : options.compression.budget;
  }
  /// Single tokens are cut back to the decode budget whenever the cache is filled so far.
  [[nodiscard]] size_t cut_back_at() const {
    const size_t interval = state.options.interval;
    const auto budget = static_cast<size_t>(decode_budget());
    return interval == 0 ? kUnlimited : budget + std::min(interval, kUnlimited - budget);
  }
  void cut_back() {
    CacheStream& stream = state.stream;
    if (stream.filled() < cut_back_at()) return;
    stream.request.options.budget = decode_budget();
    engine.compress(stream);
    stream.request.options.budget = state.options.compression.budget;
  }

  /// Whether positions are numbered anew now and then.
  [[nodiscard]] bool renumbers() const {
    return state.stream.compact_positions && state.stream.cuts();
  }
  [[nodiscard]] size_t context() const { return model.config().context_length; }
  [[nodiscard]] size_t chunk(size_t tokens) const {
    return state.options.chunk > 0 ? state.options.chunk : std::max<size_t>(1, tokens);
  }
  /// A token alone that follows others is decoded.
  [[nodiscard]] bool decodes(size_t tokens) const { return tokens == 1 && state.tokens > 0; }

  /// Where the next token would stand once so many were appended; none if they would not fit.
  [[nodiscard]] std::optional<size_t> position_after(size_t tokens) const {
    size_t position = state.stream.request.cache.next_position;
    for (size_t done = 0; done < tokens;) {
      const size_t count = std::min(chunk(tokens), tokens - done);
      if (position > context() || count > context() - position) return std::nullopt;
      position += count;
      done += count;
      if (decodes(tokens)) {
        if (renumbers() && position >= cut_back_at())
          position = static_cast<size_t>(decode_budget());
      } else if (renumbers()) {
        position = std::min(position, static_cast<size_t>(state.options.compression.budget));
      }
    }
    return position;
  }

  [[noreturn]] void refuse_length(size_t tokens) const {
    const size_t position = state.stream.request.cache.next_position;
    std::string remedy =
        "shorten them, use a model with a longer context, or number kept tokens "
        "anew (compact_positions) and read in chunks";
    if (state.options.compact_positions && !state.stream.cuts()) {
      remedy = "method full drops nothing to make room; choose another";
    } else if (renumbers() && decodes(tokens)) {
      remedy = "cut the cache while tokens are appended one by one (interval)";
    } else if (renumbers()) {
      remedy = "read in chunks that fit beside the budget (chunk), or lower the budget";
    }
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} tokens from position {} on pass the model's context of {}; {}",
                            tokens, position, context(), remedy));
  }

  const Model& model;
  Engine engine;
  SessionState state;
};

Session::Session(const Model& model, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::span<const float> Session::append(std::span<const int32_t> tokens,
                                       const ProgressCallback& progress) {
  SessionState& s = impl_->state;
  Engine& engine = impl_->engine;
  if (!impl_->position_after(tokens.size())) impl_->refuse_length(tokens.size());
  if (impl_->decodes(tokens.size())) {
    const auto logits = engine.decode(tokens[0], s.stream);
    s.logits.assign(logits.begin(), logits.end());
    ++s.tokens;
    impl_->cut_back();
    return s.logits;
  }
  const size_t chunk = impl_->chunk(tokens.size());
  size_t done = 0;
  do {
    const size_t count = std::min(chunk, tokens.size() - done);
    const auto share = [&](double part) {
      return (static_cast<double>(done) + part * static_cast<double>(count)) /
             static_cast<double>(tokens.size());
    };
    s.logits = engine.extend(
        tokens.subspan(done, count), s.stream,
        progress ? [&](double part) { return progress(share(part)); } : ProgressCallback());
    done += count;
    s.tokens += count;
  } while (done < tokens.size());
  return s.logits;
}

std::optional<size_t> Session::room_after(size_t prompt_tokens) const {
  const std::optional<size_t> position = impl_->position_after(prompt_tokens);
  if (!position || *position > impl_->context()) return std::nullopt;
  const size_t room = impl_->context() - *position;
  const bool renewed = impl_->renumbers() && room > 0 && impl_->cut_back_at() <= impl_->context();
  return renewed ? kUnlimited : room;
}

std::span<const float> Session::logits() const { return impl_->state.logits; }

void Session::compress() {
  if (impl_->state.tokens > 0) impl_->engine.compress(impl_->state.stream);
}

void Session::set_budget(int budget) {
  SessionState& s = impl_->state;
  CompressionOptions changed = s.options.compression;
  if (changed.method == "full") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a budget of {} has no effect on method full, which keeps everything; "
                            "begin anew with another method",
                            budget));
  }
  changed.budget = budget;
  validate(changed, impl_->model.config().cache_shape());
  s.options.compression = changed;
  s.stream.request.options = changed;
}

void Session::set_sparse(const SparseOptions& options) {
  impl_->engine.set_sparse(options);
  impl_->state.options.sparse = options;
}

Session Session::fork() const {
  auto copy = std::make_unique<Impl>(impl_->model, impl_->state.options);
  copy->state = impl_->state;
  return Session(std::move(copy));
}

void Session::save(const std::string& path, std::string_view note) const {
  save_snapshot(impl_->model, impl_->state, note, path);
}

Session Session::load(const Model& model, const std::string& path, std::string* note) {
  Snapshot snapshot = load_snapshot(model, path);
  std::unique_ptr<Impl> impl;
  try {
    impl = std::make_unique<Impl>(model, snapshot.state.options);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) throw;
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", path, e.what()));
  }
  impl->state = std::move(snapshot.state);
  if (note != nullptr) *note = std::move(snapshot.note);
  return Session(std::move(impl));
}

const SessionOptions& Session::options() const { return impl_->state.options; }
const KvCache& Session::cache() const { return impl_->state.stream.request.cache; }
size_t Session::tokens() const { return impl_->state.tokens; }
double Session::compress_seconds() const { return impl_->state.stream.request.compress_seconds; }
const SparseReport& Session::sparse_report() const { return impl_->engine.sparse_report(); }

}  // namespace restkv
