#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

/// The rows that every expert of a layer computes (Shazeer et al. 2017, section 2.1).
class Routing {
 public:
  /// A row of x, and the weight of the expert's output for it.
  struct Row {
    uint32_t row = 0;
    float weight = 0;
  };

  /// Chooses for each row of `logits` [n, experts] those with the largest ones; of equal ones the
  /// first. A row with NaN or infinity gets weights of NaN. Memory is reused between calls.
  void choose(Matrix<const float> logits, const ExpertsConfig& experts);

  /// Those of expert e, ascending.
  [[nodiscard]] std::span<const Row> of(size_t e) const { return of(e, e + 1); }
  /// Those of experts [first, last), one expert after another.
  [[nodiscard]] std::span<const Row> of(size_t first, size_t last) const {
    return {rows_.data() + begins_[first], begins_[last] - begins_[first]};
  }

 private:
  /// An expert of a row.
  struct Choice {
    uint32_t expert = 0;
    float weight = 0;
  };
  static void choose_row(std::span<const float> logits, const ExpertsConfig& experts,
                         std::span<Choice> choices);

  std::vector<Choice> choices_;  // [n, used]
  std::vector<size_t> begins_;   // [experts + 1], into rows_
  std::vector<Row> rows_;        // [n * used], ordered by expert
};

}  // namespace restkv
