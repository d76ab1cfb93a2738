#include "restkv/session.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/stream.h"

namespace restkv {

struct Session::Impl {
  Impl(const Model& m, const SessionOptions& o) : model(m), options(o), engine(m) {
    stream.request.options = options.compression;
    stream.request.kv_type = options.kv_type;
    stream.compact_positions = options.compact_positions;
    engine.start(stream);
    CompressionOptions decoding = options.compression;
    decoding.budget = decode_budget();
    validate(decoding);
  }

  [[nodiscard]] int decode_budget() const {
    return options.decode_budget != 0 ? options.decode_budget : options.compression.budget;
  }
  /// Cuts back once `interval` tokens have come since the last time.
  void cut_back() {
    if (options.interval == 0) return;
    if (stream.held < static_cast<size_t>(decode_budget()) + options.interval) return;
    stream.request.options.budget = decode_budget();
    engine.compress(stream);
    stream.request.options.budget = options.compression.budget;
  }

  const Model& model;
  SessionOptions options;
  Engine engine;
  CacheStream stream;
  std::vector<float> logits;
  size_t tokens = 0;
};

Session::Session(const Model& model, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::span<const float> Session::append(std::span<const int32_t> tokens,
                                       const ProgressCallback& progress) {
  Impl& s = *impl_;
  if (tokens.size() == 1 && s.tokens > 0) {
    const auto logits = s.engine.decode(tokens[0], s.stream);
    s.logits.assign(logits.begin(), logits.end());
    ++s.tokens;
    s.cut_back();
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
    s.logits = s.engine.extend(
        tokens.subspan(done, count), s.stream,
        progress ? [&](double part) { return progress(share(part)); } : ProgressCallback());
    done += count;
    s.tokens += count;
  } while (done < tokens.size());
  return s.logits;
}

std::span<const float> Session::logits() const { return impl_->logits; }

Session Session::fork() const {
  auto copy = std::make_unique<Impl>(impl_->model, impl_->options);
  copy->stream = impl_->stream;
  copy->logits = impl_->logits;
  copy->tokens = impl_->tokens;
  return Session(std::move(copy));
}

const SessionOptions& Session::options() const { return impl_->options; }
const KvCache& Session::cache() const { return impl_->stream.request.cache; }
size_t Session::tokens() const { return impl_->tokens; }
double Session::compress_seconds() const { return impl_->stream.request.compress_seconds; }

}  // namespace restkv
