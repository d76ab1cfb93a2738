#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "restkv/compress.h"
#include "restkv/selection.h"
#include "restkv/views.h"

/// Selections from plain arrays whose caller knows no more than what a layer computes.
namespace restkv::doors {

/// A rotary embedding: pair i of position p is rotated by p * frequencies[i] and multiplied by
/// `magnitude`. No frequencies: not given.
struct Rotation {
  std::span<const float> frequencies;
  double magnitude = 1;
  bool halves = true;  ///< Pairs are (i, i + pairs), else (2i, 2i + 1).
};

/// One layer after a prompt of n tokens, whose positions are 0 to n - 1. What else a method reads
/// is made of these.
struct ArrayLayer {
  /// [query_heads, rows, d] after rotary embedding: those of the last tokens, or of all n, which
  /// some methods read.
  Heads<const float> queries;
  Heads<const float> keys;            ///< [kv_heads, n, d], after rotary embedding.
  Heads<const float> values;          ///< [kv_heads, n, dv].
  Heads<const float> unrotated_keys;  ///< As `keys`; empty: made with `rotation`.
  Matrix<const float> wo;             ///< W_O, [width, query_heads * dv]; empty: not given.
  /// Of `wo`, if the caller has it already; null: computed.
  const OutputFactor* factor = nullptr;
  Matrix<const float> inputs;  ///< [n, width]: what the layer's attention reads; empty: not given.
  Rotation rotation;
  float scale = 0;    ///< Softmax scale; 0: 1 / sqrt(d).
  float softcap = 0;  ///< Of the logits; 0: none.
  size_t layer = 0;   ///< Its number among `layers`, for allocations over layers.
  size_t layers = 1;
};

/// What a method reads of a layer of n tokens, beside keys and values.
struct ArrayNeeds {
  size_t queries = 0;     ///< The last so many.
  bool wo = false;        ///< W_O itself.
  bool factor = false;    ///< Its `OutputFactor`, or W_O.
  bool rotation = false;  ///< Or `unrotated_keys`, if it reads no rotated queries.
  bool inputs = false;
};
/// Throws `Error` as `select_from_arrays` does for what no array can give.
ArrayNeeds array_needs(const CompressionOptions& options, size_t n);

/// The positions that each head keeps. Throws `Error`: kInvalidArgument naming the array that is
/// missing or does not fit, or options that `validate` refuses; kUnsupported for methods that need
/// a model, which repeats its prompt for them, and for options that change values; kInput on NaN
/// and infinity.
Selection select_from_arrays(const ArrayLayer& layer, const CompressionOptions& options);

}  // namespace restkv::doors
