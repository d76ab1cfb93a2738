#include "cli/process.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/threads.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

std::atomic<bool> g_catching{false};
std::atomic<bool> g_interrupted{false};

void wait_for_signals(const sigset_t& signals) {
  for (int signal = 0; sigwait(&signals, &signal) == 0;) {
    if (g_catching && !g_interrupted.exchange(true)) continue;
    std::signal(signal, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    std::raise(signal);
  }
}

}  // namespace

void take_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // and in every thread that is started from here
  std::thread([signals] { wait_for_signals(signals); }).detach();
}

void catch_interrupts() {
  g_interrupted = false;
  g_catching = true;
}

void release_interrupts() { g_catching = false; }

bool interrupted() { return g_interrupted; }

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("cannot write to standard output: {}", std::strerror(errno)));
  }
}

void use_threads(int threads) {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (threads < 0 || threads > 4 * processors) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--threads is {}; expected 1 to {} (this machine has {} processors), "
                            "or 0 for one per processor",
                            threads, 4 * processors, processors));
  }
  set_num_threads(threads == 0 ? processors : threads);
}

size_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "CPU";
}

std::string machine_description() {
  return fmt::format("{}, {} thread{}", processor_name(), num_threads(),
                     num_threads() == 1 ? "" : "s");
}

std::string human_bytes(double bytes) {
  static constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

}  // namespace restkv::cli
