#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/printable.h"

namespace restkv {
namespace {

constexpr double kBarSeconds = 0.1;
constexpr double kLineSeconds = 5;
constexpr double kLineFraction = 0.1;
constexpr size_t kBarCells = 24;

size_t terminal_columns(std::FILE* file) {
  winsize size{};
  const bool known = ::ioctl(::fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string clock_time(double seconds) {
  const long long s = std::llround(seconds);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// "1:05, 0:35 left". The estimate assumes a constant speed; it is left out during the first
/// percent.
std::string times(double fraction, double elapsed) {
  std::string text = clock_time(elapsed);
  if (fraction >= 0.01 && fraction < 1) {
    text += fmt::format(", {} left", clock_time(elapsed * (1 - fraction) / fraction));
  }
  return text;
}

/// Keeps `text` to one terminal row: no control characters, at most `columns` code points.
std::string one_row(std::string_view text, size_t columns) {
  std::string line = printable(text);
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < ' '; }, ' ');
  size_t code_points = 0;
  const auto end = std::find_if(line.begin(), line.end(), [&](unsigned char c) {
    const bool starts_code_point = (c & 0xC0) != 0x80;
    return starts_code_point && ++code_points > columns;
  });
  line.erase(end, line.end());
  return line;
}

}  // namespace

Progress::Progress(std::FILE* file, std::string_view title, Mode mode, Clock clock)
    : file_(file),
      title_(printable(title)),
      mode_(mode),
      clock_(std::move(clock)),
      start_(clock_()) {
  if (mode_ == Mode::kAuto) mode_ = ::isatty(::fileno(file_)) == 1 ? Mode::kBar : Mode::kLines;
}

Progress::~Progress() { erase_bar(); }

double Progress::steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Progress::update(double fraction, std::string_view detail) {
  if (mode_ == Mode::kOff) return;
  fraction = fraction > 0 ? std::min(fraction, 1.0) : 0;  // also turns NaN into 0
  const double elapsed = clock_() - start_;
  const double waited = elapsed - last_time_;
  // Tenths are compared as integers, so that 0.3 - 0.2 counts as a full tenth.
  const auto tenth = [](double f) { return std::floor(f / kLineFraction + 1e-9); };
  const bool first = last_fraction_ < 0;
  const bool due = mode_ == Mode::kBar
                       ? waited >= kBarSeconds
                       : waited >= kLineSeconds || tenth(fraction) > tenth(last_fraction_);
  if (!first && !due) return;
  last_time_ = elapsed;
  last_fraction_ = fraction;
  if (mode_ == Mode::kBar) {
    draw_bar(fraction, elapsed, detail);
  } else {
    fmt::print(file_, "{}: {:.0f}% ({}){}{}\n", title_, 100 * fraction, times(fraction, elapsed),
               detail.empty() ? "" : " ", printable(detail));
    std::fflush(file_);
  }
}

void Progress::finish() {
  erase_bar();
  if (mode_ == Mode::kLines) {
    fmt::print(file_, "{}: done in {:.1f} s\n", title_, clock_() - start_);
    std::fflush(file_);
  }
  mode_ = Mode::kOff;
}

void Progress::draw_bar(double fraction, double elapsed, std::string_view detail) {
  const auto filled = static_cast<size_t>(fraction * kBarCells);
  const std::string line =
      fmt::format("{} [{:#<{}}{:.<{}}] {:3.0f}%  {}  {}", title_, "", filled, "",
                  kBarCells - filled, 100 * fraction, times(fraction, elapsed), detail);
  // One column stays free, because terminals wrap when the last one is written.
  fmt::print(file_, "\r\x1b[2K{}", one_row(line, terminal_columns(file_) - 1));
  std::fflush(file_);
  bar_on_screen_ = true;
}

void Progress::erase_bar() {
  if (!bar_on_screen_) return;
  std::fputs("\r\x1b[2K", file_);
  std::fflush(file_);
  bar_on_screen_ = false;
}

}  // namespace restkv
