#include "model/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/threads.h"

namespace restkv {

void Routing::choose_row(std::span<const float> logits, const ExpertsConfig& experts,
                         std::span<Choice> choices) {
  if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
    // The row's outputs, and in the end its logits, become NaN; other rows go on.
    for (size_t i = 0; i < choices.size(); ++i) {
      choices[i] = {static_cast<uint32_t>(i), std::numeric_limits<float>::quiet_NaN()};
    }
    return;
  }
  const auto better = [&](size_t a, size_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  // The best so far, in order: nearly all experts fail at the first comparison.
  size_t found = 0;
  for (size_t e = 0; e < logits.size(); ++e) {
    if (found == choices.size() && !better(e, choices[found - 1].expert)) continue;
    size_t at = found < choices.size() ? found++ : found - 1;
    for (; at > 0 && better(e, choices[at - 1].expert); --at) choices[at] = choices[at - 1];
    choices[at].expert = static_cast<uint32_t>(e);
  }
  const float largest = logits[choices.front().expert];
  float sum = 0;
  for (Choice& choice : choices) {
    choice.weight = std::exp(logits[choice.expert] - largest);
    sum += choice.weight;
  }
  if (!experts.normalised) {
    sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
  }
  for (Choice& choice : choices) choice.weight *= experts.scale / sum;
}

void Routing::choose(Matrix<const float> logits, const ExpertsConfig& experts) {
  const size_t used = experts.used;
  choices_.resize(logits.rows * used);
  constexpr size_t kRowsPerTask = 16;
  parallel_for((logits.rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, size_t) {
    const size_t end = std::min(logits.rows, (task + 1) * kRowsPerTask);
    for (size_t r = task * kRowsPerTask; r < end; ++r) {
      choose_row(logits.row_span(r), experts, std::span(choices_).subspan(r * used, used));
    }
  });

  // A counting sort. begins_[e + 1] first is where the next row of expert e goes.
  begins_.assign(logits.cols + 2, 0);
  for (const Choice& choice : choices_) ++begins_[choice.expert + 2];
  for (size_t e = 2; e < begins_.size(); ++e) begins_[e] += begins_[e - 1];
  rows_.resize(choices_.size());
  for (size_t i = 0; i < choices_.size(); ++i) {
    rows_[begins_[choices_[i].expert + 1]++] = {static_cast<uint32_t>(i / used),
                                                choices_[i].weight};
  }
}

}  // namespace restkv
