#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "compress/window_attention.h"
#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Width and displacement of a pooling window, in positions.
struct PoolingWindow {
  int kernel = 1;
  int shift = 0;
};

/// ReST-KV's drift t of every query head of a group, in positions: where the `count` largest
/// weights of a window row lie, averaged over the first window / 2 rows, minus the same over the
/// other rows. The window's own columns take part. 0 for a window of one row.
std::vector<float> attention_drift(const WindowAttention& attention, size_t count);

/// ReST-KV's adaptive window: kernel 2 * floor(|t| / scale) + 1 but at least `kernel`; shift t /
/// scale rounded as the authors' code does it: towards zero, except that t = 0 shifts by 1 and an
/// exact negative multiple -c * scale by -(c - 1).
PoolingWindow adaptive_window(float drift, int kernel, double scale);

/// Smooths scores along positions; `out` has the size of `raw`. Average: zeros outside, always
/// divided by the kernel. Max: the outside never wins. Adaptive: average around i + shift, edge
/// values repeated. The shift is read by the adaptive window only.
void smooth(std::span<const float> raw, Pooling pooling, PoolingWindow window,
            std::span<float> out);

/// One score per position for a whole group: mean, maximum or sum over the rows of `scores`.
void reduce_group(Matrix<const float> scores, GroupReduce reduce, std::span<float> out);

}  // namespace restkv
