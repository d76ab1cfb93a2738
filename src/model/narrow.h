#pragma once

#include "model/communicator.h"
#include "model/weights.h"
#include "restkv/model.h"

namespace restkv {

/// Leaves of a model what one of several processes computes: KV heads with their query heads (rows
/// of QKV, columns of the output projection), channels of the feed-forward networks (rows of gate
/// and up, columns of down) and rows of the output table. Everything is a view of the same file. Of
/// biases that follow a sum over processes, rank 0 has all and the others nothing.
///
/// Throws `Error`: kInvalidArgument for more processes than KV heads or blocks of channels,
/// kUnsupported if heads begin within a block of a quantised output projection, or if the model
/// norms all heads of a token together.
void narrow(ModelWeights& weights, ModelConfig& config, Communicator& communicator);

}  // namespace restkv
