#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// Random cases with promises that must hold for each of them. A case is a list of words, as on a
/// command line: a failing one can be typed in again, and shrinks by leaving words out.
namespace restkv::fuzz {

using Case = std::vector<std::string>;

/// Random choices; the same seed and number give the same case on every machine.
class Random {
 public:
  Random(uint64_t seed, uint64_t number) {
    std::seed_seq both{seed & 0xFFFFFFFF, seed >> 32, number & 0xFFFFFFFF, number >> 32};
    engine_.seed(both);
  }

  size_t below(size_t end) { return static_cast<size_t>(engine_() % end); }
  /// True once in `times`, on average.
  bool once_in(size_t times) { return below(times) == 0; }
  template <class List>
  auto any(const List& list) {
    return *(std::begin(list) + static_cast<std::ptrdiff_t>(below(std::size(list))));
  }

 private:
  std::mt19937_64 engine_;
};

/// A broken promise.
class Finding : public std::runtime_error {
 public:
  /// `promise`: its name, by which findings of the same kind are told.
  Finding(std::string_view promise, const std::string& seen)
      : std::runtime_error(std::string(promise) + ": " + seen) {}
};

struct Verdict {
  bool refused = false;                ///< As bad options may be.
  std::vector<std::string> held = {};  ///< Promises that were looked at; counted in the summary.
};

/// How cases of a kind are made, and what must be true of them.
class Kind {
 public:
  virtual ~Kind() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  virtual Case make(Random& random) = 0;
  /// Throws `Finding`. Must also bear words that `make` never writes, and words left out.
  virtual Verdict run(const Case& words) = 0;
  /// A shell command that does the same without this program; empty if there is none.
  [[nodiscard]] virtual std::string as_command(const Case&) const { return {}; }
};

struct CampaignOptions {
  uint64_t seed = 1;
  uint64_t first = 0;  ///< Number of the first case.
  size_t cases = 0;    ///< 0: as many as there is time for.
  double minutes = 0;  ///< 0: no limit.
  size_t jobs = 1;     ///< Processes at a time.
};

/// Runs cases in processes of their own, so that a crash or an endless loop costs one case; shrinks
/// what fails and prints it with the command that repeats it. Returns the number of findings.
size_t run_campaign(Kind& kind, const CampaignOptions& options);

/// One case in this process; prints what is found. Returns the number of findings.
size_t run_case(Kind& kind, const Case& words);

/// Words as a shell takes them.
std::string shell_line(const Case& words);

}  // namespace restkv::fuzz
