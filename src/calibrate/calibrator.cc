#include "calibrate/calibrator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/bytes.h"
#include "base/threads.h"
#include "calibrate/ridge.h"
#include "compress/finite.h"
#include "engine/prefill.h"
#include "engine/token_observer.h"
#include "restkv/aligned.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Sums over queries before rotary embedding, for a layer.
struct QuerySums {
  size_t count = 0;
  std::vector<double> real, imaginary, magnitude;  ///< [query heads, pairs]

  void add(Heads<const float> queries, const MeanRotation& pairs) {
    const size_t n = pairs.cosine.size();
    count += queries.rows;
    parallel_for(queries.heads, [&](size_t h, size_t) {
      for (size_t i = 0; i < queries.rows; ++i) {
        const float* q = queries.row(h, i);
        for (size_t f = 0; f < n; ++f) {
          const double a{q[pairs.halves ? f : 2 * f]};
          const double b{q[pairs.halves ? f + n : 2 * f + 1]};
          real[h * n + f] += a;
          imaginary[h * n + f] += b;
          magnitude[h * n + f] += std::sqrt(a * a + b * b);
        }
      }
    });
  }
};

/// What is gathered in a layer whose cache is compressed.
struct LayerSums {
  QuerySums queries;
  RidgeSums scores;
};

std::vector<float> divided(std::span<const double> sums, size_t count) {
  std::vector<float> means;
  for (const double x : sums) means.push_back(static_cast<float>(x / static_cast<double>(count)));
  return means;
}

/// The method whose scores are the targets. Its budget is as small as can be, because a prompt
/// within the budget is not scored.
CompressionOptions target_options() {
  CompressionOptions options = default_options("kvzip-plus");
  options.budget = options.sinks + 1;
  return options;
}

class CalibrationSink : public LayerSink {
 public:
  CalibrationSink(const Model& model, Workspace& workspace, const RepeatPrompt& prompt,
                  const CompressionOptions& options, size_t tokens, std::vector<LayerSums>& layers)
      : model_(model),
        rope_(workspace.rope_of(0)),
        prompt_(prompt),
        options_(options),
        tokens_(tokens),
        layers_(layers),
        inputs_(tokens * model.config().width) {}

  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    return {&options_};
  }
  [[nodiscard]] std::vector<RepeatFeed> feeds(std::span<const int32_t> tokens) const override {
    return repeat_feeds(tokens, {.chunk = tokens.size()}, prompt_);
  }

  void see(size_t layer, size_t first, Heads<const float> queries,
           Matrix<const float> inputs) override {
    if (!all_finite(inputs)) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}: layer {} reads NaN or infinity near position {}; the model's "
                              "file is probably damaged",
                              model_.path(), layer, first));
    }
    for (size_t i = 0; i < inputs.rows; ++i) {
      std::ranges::copy(inputs.row_span(i), &inputs_[(first + i) * inputs.cols]);
    }
    const Heads<const float> plain =
        model_.config().rotates(layer) ? unrotated(queries, rope_, first, unrotated_) : queries;
    sums(layer).queries.add(plain, rope_.at(0));
  }

  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    const ModelConfig& c = model_.config();
    if (c.windows[layer] > 0) return;
    LayerObservation observation = observer.observation(0, layer);
    observation.keys = kv.keys();
    observation.values = kv.values();
    const LayerScores scores = score_tokens(observation, options_);
    // What stands in front of the text is not repeated and has no scores.
    const size_t begin = std::max(prompt_.prefix.size(), static_cast<size_t>(options_.sinks));
    if (begin >= tokens_) return;
    std::vector<float> targets;
    for (size_t i = begin; i < tokens_; ++i) {
      for (size_t h = 0; h < scores.heads; ++h) {
        targets.push_back(
            std::log(std::max(scores.rows().row(h)[i], std::numeric_limits<float>::min())));
      }
    }
    sums(layer).scores.add({&inputs_[begin * c.width], tokens_ - begin, c.width},
                           {targets.data(), tokens_ - begin, scores.heads});
  }

 private:
  [[nodiscard]] LayerSums& sums(size_t layer) const {
    return layers_[model_.config().global_layers_before(layer)];
  }

  const Model& model_;
  RopeTable& rope_;
  const RepeatPrompt& prompt_;
  const CompressionOptions& options_;
  size_t tokens_;
  std::vector<LayerSums>& layers_;
  AlignedVector<float> inputs_;     ///< Of the current layer, [n, C].
  AlignedVector<float> unrotated_;  ///< Queries of a block.
};

}  // namespace

struct Calibrator::Impl {
  Impl(const Model& of, RepeatPrompt words)
      : model(of), prompt(std::move(words)), workspace(of), dense(of.config()) {}

  const Model& model;
  RepeatPrompt prompt;
  CompressionOptions options = target_options();
  Workspace workspace;
  SparsePrefill dense;
  std::vector<LayerSums> layers;
  size_t texts = 0, tokens = 0;
};

Calibrator::Calibrator(const Model& model, RepeatPrompt prompt)
    : impl_(std::make_unique<Impl>(model, std::move(prompt))) {
  const ModelConfig& c = model.config();
  if (c.global_layers() == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: all layers of the model keep their sliding window; there is "
                            "nothing to compress or to calibrate",
                            model.path()));
  }
  if (longest_text() < kShortestText) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a text and its repetition do not fit the model's context of {} "
                            "tokens",
                            model.path(), c.context_length));
  }
  const size_t pairs = impl_->workspace.rope_of(0).at(0).cosine.size();
  const std::vector<double> zeros(c.query_heads * pairs, 0.0);
  for (size_t l = 0; l < c.global_layers(); ++l) {
    impl_->layers.push_back({.queries = {.real = zeros, .imaginary = zeros, .magnitude = zeros},
                             .scores = RidgeSums(c.width, c.kv_heads)});
  }
}
Calibrator::~Calibrator() = default;

size_t Calibrator::longest_text() const {
  const RepeatPrompt& prompt = impl_->prompt;
  const size_t around = prompt.prefix.size() + longest_feed(0, 1, prompt);
  const size_t context = impl_->model.config().context_length;
  return (context - std::min(context, around)) / 2;
}

void Calibrator::add(std::span<const int32_t> tokens, const ProgressCallback& progress) {
  if (tokens.size() < kShortestText || tokens.size() > longest_text()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a text has {} tokens; it must have {} to {}, which fit the model's "
                            "context twice",
                            tokens.size(), kShortestText, longest_text()));
  }
  std::vector<int32_t> prompt = impl_->prompt.prefix;
  prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  CalibrationSink sink(impl_->model, impl_->workspace, impl_->prompt, impl_->options, prompt.size(),
                       impl_->layers);
  Prefill(impl_->model, impl_->workspace, prompt, sink, impl_->dense).run(progress);
  ++impl_->texts;
  impl_->tokens += tokens.size();
}

size_t Calibrator::texts() const { return impl_->texts; }
size_t Calibrator::tokens() const { return impl_->tokens; }

size_t Calibrator::bytes() const {
  size_t sum = 0;
  for (const LayerSums& layer : impl_->layers) sum += layer.scores.bytes();
  return sum;
}

Calibration Calibrator::result() const {
  const ModelConfig& c = impl_->model.config();
  Calibration result{.model = c.fingerprint,
                     .description = impl_->model.description(),
                     .tokens = impl_->tokens,
                     .queries = {},
                     .scores = std::vector<ScoreMap>(impl_->layers.size())};
  for (const LayerSums& layer : impl_->layers) {
    const QuerySums& sums = layer.queries;
    const size_t pairs = sums.real.size() / c.query_heads;
    auto& heads = result.queries.emplace_back();
    for (size_t h = 0; h < c.query_heads; ++h) {
      const auto mean = [&](const std::vector<double>& of) {
        return divided(std::span(of).subspan(h * pairs, pairs), sums.count);
      };
      heads.push_back({.real = mean(sums.real),
                       .imaginary = mean(sums.imaginary),
                       .magnitude = mean(sums.magnitude)});
    }
  }
  parallel_for(impl_->layers.size(), [&](size_t l, size_t) {
    const RidgeSums::Fit fit = impl_->layers[l].scores.solve(kAlpha);
    const auto floats = [](const std::vector<double>& x) {
      return std::vector<float>(x.begin(), x.end());
    };
    result.scores[l] = {.width = c.width,
                        .weights = floats(fit.weights),
                        .bias = floats(fit.bias),
                        .hidden_weights = {},
                        .hidden_bias = {},
                        .fit = floats(fit.r2)};
  });
  return result;
}

void Calibrator::save(ByteWriter& out) const {
  out.number<uint64_t>(impl_->texts);
  out.number<uint64_t>(impl_->tokens);
  for (const LayerSums& layer : impl_->layers) {
    out.number<uint64_t>(layer.queries.count);
    for (const auto* sums :
         {&layer.queries.real, &layer.queries.imaginary, &layer.queries.magnitude}) {
      out.array(std::span<const double>(*sums));
    }
    layer.scores.save(out);
  }
}

void Calibrator::load(ByteReader& in) {
  impl_->texts = in.number<uint64_t>();
  impl_->tokens = in.number<uint64_t>();
  for (LayerSums& layer : impl_->layers) {
    layer.queries.count = in.number<uint64_t>();
    for (auto* sums : {&layer.queries.real, &layer.queries.imaginary, &layer.queries.magnitude}) {
      const size_t size = sums->size();
      in.array(*sums);
      in.expect(sums->size() == size, "its sums do not fit the model");
    }
    layer.scores.load(in);
  }
}

}  // namespace restkv
