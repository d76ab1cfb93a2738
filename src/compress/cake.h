#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "restkv/compress.h"

namespace restkv {

/// CAKE's preference of a layer (arXiv 2503.12491, section 4): H^(1/tau1) * S^(1/tau2) for the
/// attention a of the last `window` queries to earlier positions. H is its entropy, -sum a ln a,
/// without making its rows sum up to 1; S the sum over positions of the variance over the rows.
/// Both cover all query heads. 0 if there is no earlier position. The heads of the layer are given
/// as to `select_ragged`.
double cake_preference(std::span<const LayerObservation> heads, size_t window, double tau1,
                       double tau2);

/// Shares `total` positions out over layers by their preferences, at most `past` for each. What a
/// layer cannot hold is shared out evenly among layers with room, and so is what rounding has lost;
/// the first layers get the rest. Identical to the authors' code.
std::vector<size_t> cake_budgets(std::span<const double> preferences, size_t total, size_t past);

}  // namespace restkv
