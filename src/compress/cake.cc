#include "compress/cake.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Entropy of the rows and sum of the variances over rows, over past positions of one query head.
struct Spread {
  double entropy = 0.0;
  double variance = 0.0;
};

Spread spread_of(Matrix<const float> rows, size_t past) {
  constexpr double kEpsilon = 1e-10;
  Spread result;
  const auto count = static_cast<double>(rows.rows);
  for (size_t j = 0; j < past; ++j) {
    double sum = 0.0;
    for (size_t r = 0; r < rows.rows; ++r) sum += double{rows.row(r)[j]};
    const double mean = sum / count;
    double squares = 0.0;
    for (size_t r = 0; r < rows.rows; ++r) {
      const double a = rows.row(r)[j];
      result.entropy -= a * std::log(a + kEpsilon);
      squares += (a - mean) * (a - mean);
    }
    result.variance += squares / std::max(1.0, count - 1);
  }
  return result;
}

/// Adds `amount` to, or takes it from, the numbers at `places` in equal parts; the first ones take
/// the rest.
void share_out(std::vector<size_t>& numbers, const std::vector<size_t>& places, size_t amount,
               bool add) {
  if (places.empty()) return;
  for (size_t i = 0; i < places.size(); ++i) {
    const size_t part = amount / places.size() + (i < amount % places.size() ? 1 : 0);
    size_t& number = numbers[places[i]];
    number = add ? number + part : number - std::min(number, part);
  }
}

template <class Condition>
std::vector<size_t> places_where(const std::vector<size_t>& numbers, const Condition& condition) {
  std::vector<size_t> places;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (condition(numbers[i])) places.push_back(i);
  }
  return places;
}

}  // namespace

double cake_preference(std::span<const LayerObservation> heads, size_t window, double tau1,
                       double tau2) {
  Spread sum;
  WindowAttention attention;
  for (const LayerObservation& part : heads) {
    if (part.keys.rows <= window) continue;
    const size_t past = part.keys.rows - window;
    const size_t group = part.queries.heads / part.keys.heads;
    std::vector<Spread> spreads(group);
    for (size_t kv_head = 0; kv_head < part.keys.heads; ++kv_head) {
      attention.observe(part, kv_head, window);
      parallel_for(group, [&](size_t g, size_t) {
        spreads[g] = spread_of(attention.rows().slice(g * window, window), past);
      });
      for (const Spread& spread : spreads) {
        sum.entropy += spread.entropy;
        sum.variance += spread.variance;
      }
    }
  }
  return std::pow(std::max(0.0, sum.entropy), 1.0 / tau1) * std::pow(sum.variance, 1.0 / tau2);
}

std::vector<size_t> cake_budgets(std::span<const double> preferences, size_t total, size_t past) {
  double sum = 0.0;
  for (const double x : preferences) sum += x;
  std::vector<size_t> budgets;
  size_t excess = 0;
  for (const double x : preferences) {
    // Layers without any preference are equal.
    const double share = sum > 0.0 ? x / sum : 1.0 / static_cast<double>(preferences.size());
    const auto budget = static_cast<size_t>(share * static_cast<double>(total));
    excess += budget - std::min(budget, past);
    budgets.push_back(std::min(budget, past));
  }
  const auto has_room = [&](size_t budget) { return budget < past; };
  share_out(budgets, places_where(budgets, has_room), excess, true);
  size_t given = 0;
  for (const size_t budget : budgets) given += budget;
  if (given <= total) {
    share_out(budgets, places_where(budgets, has_room), total - given, true);
  } else {
    share_out(budgets, places_where(budgets, [](size_t budget) { return budget > 1; }),
              given - total, false);
  }
  for (size_t& budget : budgets) budget = std::min(budget, past);
  return budgets;
}

}  // namespace restkv
