// A compression method of one's own, known by name like the library's: keeps the positions whose values are
// longest.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace {

constexpr size_t kTokens = 40;
constexpr size_t kDim = 4;

void check(const restkv::CompressionOptions& options) {
  if (options.budget >= 1) return;
  throw restkv::Error(restkv::ErrorCode::kInvalidArgument, "budget must be at least 1");
}

restkv::LayerScores score(const restkv::LayerObservation& layer,
                          const restkv::CompressionOptions& options,
                          restkv::SelectionTrace* /*trace*/) {
  const bool shortest = restkv::own_word(options, "keeps") == 1;
  restkv::LayerScores scores(layer.keys.heads, layer.keys.rows);
  for (size_t h = 0; h < layer.values.heads; ++h) {
    for (size_t n = 0; n < layer.values.rows; ++n) {
      float norm = 0;
      for (size_t i = 0; i < layer.values.dim; ++i) {
        norm += layer.values.row(h, n)[i] * layer.values.row(h, n)[i];
      }
      scores.rows().row(h)[n] = shortest ? -norm : norm;
    }
  }
  if (layer.state != nullptr) {  // counts its selections, as something to remember
    if (layer.state->empty()) layer.state->push_back(0);
    ++layer.state->front();
  }
  return scores;
}

/// Scores for other heads than the layer has.
restkv::LayerScores misshapen(const restkv::LayerObservation& layer,
                              const restkv::CompressionOptions& /*options*/,
                              restkv::SelectionTrace* /*trace*/) {
  return {layer.keys.heads + 1, layer.keys.rows};
}

bool expect(bool ok, const char* what) {
  if (!ok) std::fprintf(stderr, "outside_method: %s\n", what);
  return ok;
}

}  // namespace

int main() {
  restkv::Method method;
  method.name = "value-norm";
  method.summary = "keeps the longest values";
  method.paper = "none";
  method.check = check;
  method.score = score;
  method.score_kind = restkv::ScoreKind::kSigned;
  method.own_options = {{"keeps", "longest|shortest", "which values stay", "longest"}};
  restkv::register_method(method);

  std::vector<float> keys(kTokens * kDim, 1.0F);
  std::vector<float> values(kTokens * kDim, 0.0F);
  for (size_t n = 0; n < kTokens; ++n) values[n * kDim] = static_cast<float>(n * 7 % kTokens);
  restkv::CompressionOptions options = restkv::default_options("value-norm");
  options.budget = 5;
  restkv::validate(options);
  restkv::MethodState state;
  restkv::LayerObservation layer;
  layer.queries = {keys.data(), 1, kTokens, kDim};
  layer.keys = {keys.data(), 1, kTokens, kDim};
  layer.values = {values.data(), 1, kTokens, kDim};
  layer.state = &state;
  const restkv::Selection kept = restkv::select_tokens(layer, options);

  std::vector<int32_t> expected;
  for (size_t n = 0; n < kTokens; ++n) {
    if (n * 7 % kTokens >= kTokens - 5) expected.push_back(static_cast<int32_t>(n));
  }
  bool ok = expect(kept.keep.at(0) == expected, "other positions are kept than the longest values");
  ok = expect(state == restkv::MethodState{1}, "what the method remembers is gone") && ok;
  ok = expect(restkv::methods().back().name == "value-norm", "the table does not have it") && ok;
  // Its option is known by name, like the library's own.
  restkv::find_compression_option("keeps").set(options, "shortest");
  ok = expect(restkv::select_tokens(layer, options).keep.at(0).front() == 0, "the option is ignored") && ok;
  options = restkv::parse_compression("value-norm:keeps=longest").options;
  options.budget = 5;
  // It shares the budget out as the library's own do.
  options.allocation = "ada";
  options.ada_normalize = false;  // these scores are no shares of anything
  ok = expect(restkv::select_tokens(layer, options).keep.at(0).size() == 5, "ada keeps others") && ok;
  for (const char* name : {"value-norm", "Value-Norm"}) {
    try {
      method.name = name;
      restkv::register_method(method);
      ok = expect(false, "a name can be taken twice");
    } catch (const restkv::Error&) {
    }
  }
  // What it returns is looked at.
  method.name = "misshapen";
  method.score = misshapen;
  restkv::register_method(method);
  options = restkv::default_options("misshapen");
  options.budget = 5;
  for (const bool ragged : {false, true}) {
    try {
      (void)(ragged ? restkv::select_ragged({&layer, 1}, options) : restkv::select_tokens(layer, options));
      ok = expect(false, "scores of another shape are used");
    } catch (const restkv::Error&) {
    }
  }
  return ok ? 0 : 1;
}
