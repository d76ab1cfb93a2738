#pragma once

#include <algorithm>

namespace restkv::server {

/// Whose turn it is while there are both prompts to be read and answers to be written: by the time
/// that both have had.
class TimeShare {
 public:
  /// What prompts are to get, above 0 and below 1.
  explicit TimeShare(double prompts) : prompts_(prompts) {}

  /// Waiting times vary least if a turn ends as near as possible to where it should: half of a
  /// prompt's step before or after.
  [[nodiscard]] bool prompt_is_next() const {
    return owed_ + prompt_step_ * (1 - prompts_) / 2 <= 0;
  }
  void prompt_took(double seconds) {
    prompt_step_ = seconds;
    add(seconds * (1 - prompts_), seconds);
  }
  void answers_took(double seconds) {
    answer_step_ += answer_step_ > 0 ? kNewest * (seconds - answer_step_) : seconds;
    // A step that took unusually long must not make the next gap long, too.
    add(-std::min(seconds, kUnusual * answer_step_) * prompts_, seconds);
  }
  /// Only one kind is there: nobody saves anything up for later.
  void forget() { owed_ = longest_ = prompt_step_ = answer_step_ = 0; }

 private:
  static constexpr double kNewest = 0.1;
  static constexpr double kUnusual = 1.25;

  void add(double owed, double seconds) {
    longest_ = std::max(longest_, seconds);
    owed_ = std::clamp(owed_ + owed, -longest_, longest_);
  }

  double prompts_;
  double owed_ = 0;         ///< Seconds x share that answers are behind.
  double longest_ = 0;      ///< Step; no debt is larger.
  double prompt_step_ = 0;  ///< The last one; the next is expected to be like it.
  double answer_step_ = 0;  ///< On average.
};

}  // namespace restkv::server
