#include "restkv/session.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/snapshot.h"

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
    validate(decoding);
  }

  [[nodiscard]] int decode_budget() const {
    const SessionOptions& options = state.options;
    return options.decode_budget != 0 ? options.decode_budget : options.compression.budget;
  }
  /// Cuts back once `interval` tokens have come since the last time.
  void cut_back() {
    CacheStream& stream = state.stream;
    if (state.options.interval == 0) return;
    if (stream.held < static_cast<size_t>(decode_budget()) + state.options.interval) return;
    stream.request.options.budget = decode_budget();
    engine.compress(stream);
    stream.request.options.budget = state.options.compression.budget;
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
  if (tokens.size() == 1 && s.tokens > 0) {
    const auto logits = engine.decode(tokens[0], s.stream);
    s.logits.assign(logits.begin(), logits.end());
    ++s.tokens;
    impl_->cut_back();
    return s.logits;
  }
  const size_t chunk = s.options.chunk > 0 ? s.options.chunk : std::max<size_t>(1, tokens.size());
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

std::span<const float> Session::logits() const { return impl_->state.logits; }

void Session::compress() {
  if (impl_->state.tokens > 0) impl_->engine.compress(impl_->state.stream);
}

void Session::set_budget(int budget) {
  SessionState& s = impl_->state;
  CompressionOptions changed = s.options.compression;
  changed.budget = budget;
  validate(changed);
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
  auto impl = std::make_unique<Impl>(model, snapshot.state.options);
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
