#include "eval/metrics/agreement.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <map>

#include "restkv/error.h"

namespace restkv::eval {
namespace {

void expect_pairs(std::span<const int> gold, std::span<const int> predicted) {
  if (gold.size() == predicted.size()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} right classes for {} predicted ones", gold.size(), predicted.size()));
}

}  // namespace

double matthews_correlation(std::span<const int> gold, std::span<const int> predicted) {
  expect_pairs(gold, predicted);
  struct Count {
    double gold = 0;
    double predicted = 0;
  };
  std::map<int, Count> classes;
  double correct = 0;
  for (size_t i = 0; i < gold.size(); ++i) {
    ++classes[gold[i]].gold;
    ++classes[predicted[i]].predicted;
    correct += gold[i] == predicted[i] ? 1 : 0;
  }
  const auto n = static_cast<double>(gold.size());
  double both = correct * n;
  double predicted_alone = n * n;
  double gold_alone = n * n;
  for (const auto& [number, count] : classes) {
    both -= count.gold * count.predicted;
    predicted_alone -= count.predicted * count.predicted;
    gold_alone -= count.gold * count.gold;
  }
  const double product = predicted_alone * gold_alone;
  return product == 0 ? 0 : both / std::sqrt(product);
}

double f1_of_class(std::span<const int> gold, std::span<const int> predicted, int positive) {
  expect_pairs(gold, predicted);
  double hits = 0;
  double named = 0;  // By either side; twice where both do.
  for (size_t i = 0; i < gold.size(); ++i) {
    hits += gold[i] == positive && predicted[i] == positive ? 1 : 0;
    named += (gold[i] == positive ? 1 : 0) + (predicted[i] == positive ? 1 : 0);
  }
  return named == 0 ? 0 : 2 * hits / named;
}

double cb_f1(std::span<const int> gold, std::span<const int> predicted) {
  return (f1_of_class(gold, predicted, 0) + f1_of_class(gold, predicted, 1) +
          f1_of_class(gold, predicted, 2)) /
         3;
}

}  // namespace restkv::eval
