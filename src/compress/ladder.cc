#include "compress/ladder.h"

#include <fmt/format.h>

#include <algorithm>

#include "restkv/error.h"

namespace restkv {
namespace {

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace

std::vector<int32_t> LadderCut::apply(size_t layer, const std::vector<int32_t>& entries) const {
  const auto end_of = [&](size_t index) {
    return entries.begin() + static_cast<ptrdiff_t>(std::min(index, entries.size()));
  };
  std::vector<int32_t> kept(entries.begin(), end_of(begin));
  for (size_t j = 0; j < rungs; ++j) {
    for (size_t x = 0; x < width; ++x) {
      const size_t index = begin + layer % offsets + period * j + step * x;
      if (index < entries.size()) kept.push_back(entries[index]);
    }
  }
  kept.insert(kept.end(), end_of(begin + period * rungs), entries.end());
  return kept;
}

LadderPlanner::LadderPlanner(const Shape& shape)
    : layers_(shape.layers),
      size_(shape.size),
      sinks_(shape.sinks),
      cursor_(std::max(shape.sinks, shape.cursor)),
      cut_(shape.cursor > 0) {
  if (shape.span == 0 || shape.span >= shape.layers) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ladder_span is {}; the layers that keep the same token must be at "
                            "least 1 and less than the {} whose cache is compressed",
                            shape.span, shape.layers));
  }
  if (shape.overlap >= shape.span) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ladder_overlap is {}; it must be less than ladder_span, which is {}",
                            shape.overlap, shape.span));
  }
  const size_t stride = shape.span - shape.overlap;
  before_ = 1 + ceil_div(shape.layers - shape.span, stride);
  after_ = std::min(ceil_div(shape.span, stride), before_);
  if (before_ == after_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a ladder over {} layers with ladder_span {} and ladder_overlap {} "
                            "loses nothing on any rung; lower one of them",
                            layers_, shape.span, shape.overlap));
  }
  const size_t least = sinks_ + layers_ + after_;
  if (shape.size < least) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("budget {} is too small for a ladder over {} layers after {} sinks; "
                            "raise it to {} or more, or lower the sinks",
                            shape.size, layers_, sinks_, least));
  }
}

std::vector<LadderCut> LadderPlanner::compact(size_t length) {
  if (length <= size_) return {};
  const size_t dropped = before_ - after_;  // per rung
  if (!cut_) size_ += dropped / 2;
  cut_ = true;
  const size_t need = length - std::min(length, size_);
  const size_t room = size_ - std::min(size_, cursor_ + layers_);
  const size_t can = room / after_ * dropped;
  const bool wraps = need > can;
  const size_t advance = wraps ? room : ceil_div(need, dropped) * after_;

  LadderCut cut;
  cut.begin = cursor_;
  cut.period = before_;
  cut.width = after_;
  cut.rungs = advance / after_;
  cut.offsets = dropped + 1;
  cursor_ += advance;
  if (!wraps) return {cut};

  // Cuts the whole stretch after the sinks once more, in rungs of the necessary length.
  const size_t rest = need - can;
  const size_t times = ceil_div(rest, (size_ - sinks_ - layers_) / after_ * dropped);
  LadderCut again;
  again.begin = sinks_;
  again.period = before_ + (times - 1) * (before_ - 1);
  again.width = after_;
  again.step = times;
  again.offsets = again.period - after_ + 1;
  again.rungs = ceil_div(rest, again.period - after_);
  cursor_ = sinks_ + again.rungs * after_;
  return {cut, again};
}

}  // namespace restkv
