#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "compress/calibration.h"
#include "restkv/engine.h"
#include "restkv/model.h"
#include "restkv/repeat.h"

namespace restkv {

class ByteReader;
class ByteWriter;

/// Learns from texts what the option `statistics` holds about a model.
///
/// For `kvzap`: each text is read as a prompt and repeated as for the method `kvzip-plus`; the
/// logarithms of the scores of its tokens are the targets of one ridge regression (alpha 1) per
/// layer on what the layer's attention reads. Sinks are left out, since they are kept anyway. The
/// published program takes the softmax over all tokens before the repeating one; restkv's scores
/// see sinks, the token's chunk and the feed (KVzip). For texts of one chunk, as here, the
/// difference is the words of the template and of the request between them.
///
/// For `triattention`: means of all queries before rotary embedding.
class Calibrator {
 public:
  /// Ridge parameter, as published.
  static constexpr double kAlpha = 1.0;

  /// `model` must outlive it. `prompt`: the words around texts. Throws `Error` (kInvalidArgument)
  /// for a model without a layer whose cache is compressed, or whose context is too short.
  Calibrator(const Model& model, RepeatPrompt prompt);
  ~Calibrator();

  /// The fewest tokens of a text, and the most: it stands twice in the context.
  static constexpr size_t kShortestText = 16;
  [[nodiscard]] size_t longest_text() const;
  /// Reads a text. Throws `Error` as `Engine::prefill` does; the
  /// sums are then of no use any more.
  void add(std::span<const int32_t> tokens, const ProgressCallback& progress = {});
  /// Texts, and their tokens, so far.
  [[nodiscard]] size_t texts() const;
  [[nodiscard]] size_t tokens() const;
  /// Memory of the sums.
  [[nodiscard]] size_t bytes() const;
  /// What the texts so far, at least one, have taught.
  [[nodiscard]] Calibration result() const;

  /// `load` replaces the sums by saved ones. It throws `Error` (kInput) on those of a model of
  /// another shape.
  void save(ByteWriter& out) const;
  void load(ByteReader& in);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv
