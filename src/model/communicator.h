#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "restkv/views.h"

namespace restkv {

/// [begin, begin + count)
struct Range {
  size_t begin = 0;
  size_t count = 0;
  [[nodiscard]] size_t end() const { return begin + count; }
};

/// The share of process `rank` of `ranks` in `count` things, of which `unit` neighbours stay
/// together. Shares follow one another and differ by one unit at most.
inline Range share(size_t count, size_t unit, size_t rank, size_t ranks) {
  const size_t units = (count + unit - 1) / unit;
  const auto begin = [&](size_t r) { return std::min(count, units * r / ranks * unit); };
  return {begin(rank), begin(rank + 1) - begin(rank)};
}

/// What one process has sent to another.
struct Message {
  size_t from = 0;
  std::string bytes;
};

/// Tensor parallelism: processes, numbered by rank, share the heads and the feed-forward channels
/// of every layer, and the rows of the output table. Each computes a part of the sums over them.
/// All processes call `all_reduce` and `gather_columns` together and in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual size_t rank() const = 0;
  [[nodiscard]] virtual size_t size() const = 0;
  /// Processes on this machine, this one included.
  [[nodiscard]] virtual size_t neighbours() const = 0;

  /// Replaces `x` [n, C] by the sum over all processes, added in the order of their ranks: all of
  /// them get the same bits.
  virtual void all_reduce(Matrix<float> x) = 0;
  /// Completes `x` [n, V]: each process has computed the columns of its `share`.
  virtual void gather_columns(Matrix<float> x) = 0;

  /// Sends bytes to another process. They arrive in the order in which they were sent.
  virtual void send(size_t to, std::string_view bytes) = 0;
  /// What has arrived and was not taken yet; none if there is nothing.
  virtual std::optional<Message> receive() = 0;
  /// The same, once there is something. Who waits long leaves the processor to others.
  virtual Message wait() = 0;

  /// Bytes and messages that this process has sent so far in sums and gathered columns.
  struct Traffic {
    size_t bytes = 0;
    size_t messages = 0;
  };
  [[nodiscard]] virtual Traffic traffic() const = 0;
};

/// A process that computes alone.
Communicator& single_process();

}  // namespace restkv
