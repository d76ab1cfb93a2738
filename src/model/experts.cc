#include "model/experts.h"

#include <algorithm>

namespace restkv {
namespace {

/// Experts are multiplied together until they have this many rows: a few rows alone would not keep
/// all threads busy, and the activations of more would not stay in the cache.
constexpr size_t kGroupRows = 64;

class ExpertsPass {
 public:
  ExpertsPass(const LayerPass& pass, Matrix<const float> x, Matrix<float> out)
      : pass_(pass), experts_(*pass.weights().experts), x_(x), out_(out) {}

  void run() {
    route();
    const size_t count = experts_.gate_up.size();
    for (size_t first = 0; first < count;) {
      size_t last = first + 1;
      if (converts(first)) {
        compute(first, last, true);
      } else {
        while (last < count && !converts(last) && routing().of(first, last).size() < kGroupRows) {
          ++last;
        }
        compute(first, last, false);
      }
      first = last;
    }
  }

 private:
  [[nodiscard]] Routing& routing() const { return pass_.activations.routing; }

  void route() const {
    const ModelConfig& c = pass_.config();
    const auto logits = room(pass_.activations.router_logits, x_.rows, c.experts.count);
    if (pass_.prefill_weights != nullptr) {
      pass_.prefill_weights->router.multiply(x_, logits);
    } else {
      experts_.router.multiply_stored(x_, logits, pass_.stored);
    }
    if (!experts_.router.bias().empty()) add_bias(logits, experts_.router.bias());
    routing().choose(logits, c.experts);
  }

  /// Whether an expert has rows enough to be converted to the precision of prompts.
  [[nodiscard]] bool converts(size_t e) const {
    return pass_.prefill_weights != nullptr &&
           routing().of(e).size() >= pass_.model.weights().prefill_gemm_min_rows;
  }

  /// Products of rows that are not many. How many rows an expert has depends on other rows, so
  /// their number must not decide whether they are rounded.
  [[nodiscard]] StoredProduct stored() const {
    return pass_.stored == StoredProduct::kFastest ? StoredProduct::kUnpacked : pass_.stored;
  }

  /// out += experts [first, last) of their rows.
  void compute(size_t first, size_t last, bool converted) const {
    const std::span<const Routing::Row> rows = routing().of(first, last);
    if (rows.empty()) return;
    Activations& a = pass_.activations;
    const auto input = room(a.expert_input, rows.size(), x_.cols);
    gather_rows(x_, rows, input);
    const auto gate_up = room(a.expert_gate_up, rows.size(), experts_.gate_up[first].rows());
    multiply(experts_.gate_up, first, last, converted, input, gate_up);
    gate_multiply(gate_up, pass_.model.weights().architecture->activation);
    const auto output = room(a.expert_output, rows.size(), out_.cols);
    multiply(experts_.down, first, last, converted,
             {gate_up.data, gate_up.rows, gate_up.cols / 2, gate_up.stride}, output);
    add_weighed_rows(output, rows, out_);
  }

  void multiply(const std::vector<Linear>& matrices, size_t first, size_t last, bool converted,
                Matrix<const float> x, Matrix<float> y) const {
    Activations& a = pass_.activations;
    if (converted) {
      a.converted_expert.convert(matrices[first], pass_.model.weights().linear);
      a.converted_expert.multiply(x, y);
    } else {
      a.expert_rows.clear();
      size_t row = 0;
      for (size_t e = first; e < last; ++e) {
        const size_t count = routing().of(e).size();
        if (count > 0) a.expert_rows.push_back({&matrices[e], row, count});
        row += count;
      }
      Linear::multiply_each_stored(a.expert_rows, x, y, stored());
    }
    if (matrices[first].bias().empty()) return;
    size_t row = 0;
    for (size_t e = first; e < last; ++e) {
      const size_t count = routing().of(e).size();
      add_bias(y.slice(row, count), matrices[e].bias());
      row += count;
    }
  }

  const LayerPass& pass_;
  const ExpertWeights& experts_;
  Matrix<const float> x_;
  Matrix<float> out_;
};

}  // namespace

void add_experts(const LayerPass& pass, Matrix<const float> x, Matrix<float> out) {
  ExpertsPass(pass, x, out).run();
}

}  // namespace restkv
