// A module that only processes with others load: nothing else in restkv needs MPI.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cluster/mpi_module.h"

namespace restkv {
namespace {

/// Up to so many bytes of partial sums, every process gets all of them at once and adds them up for
/// itself. Beyond, each adds up a part for all, which takes two steps but fewer bytes.
constexpr size_t kOneStepBytes = size_t{64} << 10U;
/// How long a process that waits for a message keeps its processor.
constexpr std::chrono::milliseconds kBusyWait{2};
constexpr std::chrono::microseconds kPause{200};
constexpr int kTag = 1;

int count(size_t n) { return static_cast<int>(n); }

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator() {
    int number = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &number);
    rank_ = static_cast<size_t>(number);
    MPI_Comm_size(MPI_COMM_WORLD, &number);
    size_ = static_cast<size_t>(number);
    MPI_Comm here = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &number);
    neighbours_ = static_cast<size_t>(number);
    MPI_Comm_free(&here);
    counts_.resize(size_);
    begins_.resize(size_);
  }

  [[nodiscard]] size_t rank() const override { return rank_; }
  [[nodiscard]] size_t size() const override { return size_; }
  [[nodiscard]] size_t neighbours() const override { return neighbours_; }

  void all_reduce(Matrix<float> x) override {
    const size_t n = x.rows * x.cols;
    float* const values = dense(x);
    parts_.resize(std::max(parts_.size(), size_ * n));
    if (size_ == 2 || size_ * n * sizeof(float) <= kOneStepBytes) {
      MPI_Allgather(values, count(n), MPI_FLOAT, parts_.data(), count(n), MPI_FLOAT,
                    MPI_COMM_WORLD);
      add_parts(values, n);
      sent((size_ - 1) * n, size_ - 1);
    } else {
      add_shares(values, n);
    }
    if (values != x.data) {
      for (size_t r = 0; r < x.rows; ++r) std::copy_n(values + r * x.cols, x.cols, x.row(r));
    }
  }

  void gather_columns(Matrix<float> x) override {
    const Range own = share(x.cols, 1, rank_, size_);
    dense_.resize(std::max(dense_.size(), x.rows * own.count));
    for (size_t r = 0; r < x.rows; ++r) {
      std::copy_n(x.row(r) + own.begin, own.count, &dense_[r * own.count]);
    }
    parts_.resize(std::max(parts_.size(), x.rows * x.cols));
    set_shares(x.cols, x.rows);
    MPI_Allgatherv(dense_.data(), count(x.rows * own.count), MPI_FLOAT, parts_.data(),
                   counts_.data(), begins_.data(), MPI_FLOAT, MPI_COMM_WORLD);
    sent((size_ - 1) * x.rows * own.count, size_ - 1);
    for (size_t rank = 0; rank < size_; ++rank) {
      if (rank == rank_) continue;
      const Range columns = share(x.cols, 1, rank, size_);
      const float* from = parts_.data() + begins_[rank];
      for (size_t r = 0; r < x.rows; ++r, from += columns.count) {
        std::copy_n(from, columns.count, x.row(r) + columns.begin);
      }
    }
  }

  void send(size_t to, std::string_view bytes) override {
    MPI_Send(bytes.data(), count(bytes.size()), MPI_CHAR, count(to), kTag, MPI_COMM_WORLD);
  }

  std::optional<Message> receive() override {
    int there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &there, &status);
    if (there == 0) return std::nullopt;
    int bytes = 0;
    MPI_Get_count(&status, MPI_CHAR, &bytes);
    Message message{.from = static_cast<size_t>(status.MPI_SOURCE),
                    .bytes = std::string(static_cast<size_t>(bytes), '\0')};
    MPI_Recv(message.bytes.data(), bytes, MPI_CHAR, status.MPI_SOURCE, kTag, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    return message;
  }

  Message wait() override {
    const auto begin = std::chrono::steady_clock::now();
    while (true) {
      if (std::optional<Message> message = receive()) return *std::move(message);
      if (std::chrono::steady_clock::now() - begin < kBusyWait) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(kPause);
      }
    }
  }

  [[nodiscard]] Traffic traffic() const override { return traffic_; }

 private:
  /// The numbers of `x` without gaps: in place, or a copy.
  float* dense(Matrix<float> x) {
    if (x.stride == x.cols || x.rows <= 1) return x.data;
    dense_.resize(std::max(dense_.size(), x.rows * x.cols));
    for (size_t r = 0; r < x.rows; ++r) std::copy_n(x.row(r), x.cols, &dense_[r * x.cols]);
    return dense_.data();
  }

  /// to [n] = the sum of the first parts_ [size, n], in the order of ranks.
  void add_parts(float* to, size_t n) const {
    std::copy_n(parts_.data(), n, to);
    for (size_t rank = 1; rank < size_; ++rank) {
      const float* part = parts_.data() + rank * n;
      for (size_t i = 0; i < n; ++i) to[i] += part[i];
    }
  }

  /// Every process adds up its share of the numbers, and gets the sums of the others.
  void add_shares(float* values, size_t n) {
    const Range own = share(n, 1, rank_, size_);
    set_shares(n, 1);
    const std::vector<int> own_counts(size_, count(own.count));
    std::vector<int> own_begins(size_);
    for (size_t rank = 0; rank < size_; ++rank) own_begins[rank] = count(rank * own.count);
    MPI_Alltoallv(values, counts_.data(), begins_.data(), MPI_FLOAT, parts_.data(),
                  own_counts.data(), own_begins.data(), MPI_FLOAT, MPI_COMM_WORLD);
    add_parts(values + own.begin, own.count);
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_FLOAT, values, counts_.data(), begins_.data(), MPI_FLOAT,
                   MPI_COMM_WORLD);
    sent(n - own.count + (size_ - 1) * own.count, 2 * (size_ - 1));
  }

  /// Numbers and beginnings of all shares in `n` columns of `rows` rows.
  void set_shares(size_t n, size_t rows) {
    for (size_t rank = 0; rank < size_; ++rank) {
      const Range range = share(n, 1, rank, size_);
      counts_[rank] = count(rows * range.count);
      begins_[rank] = count(rows * range.begin);
    }
  }

  void sent(size_t numbers, size_t messages) {
    traffic_.bytes += numbers * sizeof(float);
    traffic_.messages += messages;
  }

  size_t rank_ = 0;
  size_t size_ = 1;
  size_t neighbours_ = 1;
  std::vector<int> counts_, begins_;
  std::vector<float> dense_, parts_;
  Traffic traffic_;
};

Communicator& join() {
  // All calls come from the thread that computes or waits for it.
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
  static MpiCommunicator all;
  return all;
}

void leave(int exit_code) {
  if (exit_code == 0) {
    MPI_Finalize();
  } else {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }
}

}  // namespace
}  // namespace restkv

extern "C" {
extern const restkv::MpiModule restkv_mpi_module;
const restkv::MpiModule restkv_mpi_module{.join = restkv::join, .leave = restkv::leave};
}
