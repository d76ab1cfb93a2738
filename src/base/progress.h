#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace restkv {

/// Shows the progress of long work: one redrawn line on a terminal, plain lines in a log. For one
/// thread at a time.
class Progress {
 public:
  enum class Mode {
    kAuto,   ///< kBar if the file is a terminal, otherwise kLines.
    kBar,    ///< A bar, redrawn at most 10 times per second and erased at the end.
    kLines,  ///< A line at every tenth of the work, and at least every 5 seconds of calls.
    kOff,    ///< Nothing at all.
  };
  /// Seconds since any fixed moment; never runs backwards.
  using Clock = std::function<double()>;

  Progress(std::FILE* file, std::string_view title, Mode mode = Mode::kAuto,
           Clock clock = steady_seconds);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Erases the bar, also when an exception passes; only `finish` claims that the work is done.
  ~Progress();

  /// `fraction` of the work is done, in [0, 1] (clamped); `detail` says what is being done.
  void update(double fraction, std::string_view detail = {});
  /// Erases the bar, or writes the closing line with the time taken.
  void finish();

  static double steady_seconds();

 private:
  void draw_bar(double fraction, double elapsed, std::string_view detail);
  void erase_bar();

  std::FILE* file_;
  std::string title_;
  Mode mode_;
  Clock clock_;
  double start_;
  double last_time_ = 0;       // time of the last output, in seconds since start_
  double last_fraction_ = -1;  // fraction at the last output; negative before the first
  bool bar_on_screen_ = false;
};

}  // namespace restkv
