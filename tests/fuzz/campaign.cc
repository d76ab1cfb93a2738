#include "fuzz/campaign.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <utility>

namespace restkv::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

/// Longer than any case takes under a sanitizer on a busy machine.
constexpr std::chrono::seconds kTimeLimit(400);
/// Different findings after which a campaign ends: the next ones would hardly be read.
constexpr size_t kMostFindings = 20;
/// Cases that shrinking one finding may cost.
constexpr int kMostAttempts = 150;

/// What a case came to, as its process tells it on one line.
struct Report {
  std::string finding = {};  // empty: none
  bool refused = false;
  std::vector<std::string> held = {};
};

std::string one_line(std::string text) {
  for (char& c : text) {
    if (std::iscntrl(static_cast<unsigned char>(c)) != 0) c = ' ';
  }
  return text;
}

Report judge(Kind& kind, const Case& words) {
  try {
    const Verdict verdict = kind.run(words);
    return {.refused = verdict.refused, .held = verdict.held};
  } catch (const Finding& e) {
    return {.finding = e.what()};
  } catch (const std::exception& e) {
    return {.finding = fmt::format("harness: {}", e.what())};
  }
}

std::string line_of(const Report& report) {
  if (!report.finding.empty()) return "finding " + one_line(report.finding) + "\n";
  std::string line = report.refused ? "refused" : "ran";
  for (const std::string& name : report.held) line += "\t" + name;
  return line + "\n";
}

Report report_of(const std::string& line) {
  constexpr std::string_view kFinding = "finding ";
  Report report;
  if (line.starts_with(kFinding)) {
    report.finding = line.substr(kFinding.size());
    return report;
  }
  std::istringstream parts(line);
  std::string part;
  std::getline(parts, part, '\t');
  report.refused = part == "refused";
  while (std::getline(parts, part, '\t')) report.held.push_back(part);
  return report;
}

/// What the standard error of a process that ended by itself says about the reason: the headline of
/// a sanitizer and the first functions of this project.
std::string last_words(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::string headline;
  std::string frames;
  size_t count = 0;
  while (std::getline(file, line)) {
    const size_t error = std::min(line.find("ERROR: "), line.find("runtime error: "));
    if (headline.empty() && error != std::string::npos) {
      headline = line.substr(error);
      headline = headline.substr(0, headline.find(" on address"));
    }
    const size_t function = line.find(" in restkv");
    if (!headline.empty() && function != std::string::npos && count < 3) {
      frames += (count++ == 0 ? " in " : " < ") +
                line.substr(function + 4, line.find_first_of("(<", function + 4) - function - 4);
    }
  }
  return headline + frames;
}

/// A process that runs cases one after the other and tells what came of them.
class Worker {
 public:
  /// `next` gives the next case, and null at the end; it is called in the new process.
  Worker(Kind& kind, const std::function<const Case*()>& next, std::string log)
      : log_(std::move(log)) {
    std::array<int, 2> fds{};
    if (pipe(fds.data()) != 0) throw std::runtime_error("pipe failed");
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ == 0) {
      close(fds[0]);
      FILE* out = fdopen(fds[1], "w");
      const int errors = open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      if (errors < 0 || dup2(errors, STDERR_FILENO) < 0) _exit(1);
      while (const Case* words = next()) {
        std::fputs("begin\n", out);
        std::fflush(out);
        std::fputs(line_of(judge(kind, *words)).c_str(), out);
        std::fflush(out);
      }
      _exit(0);
    }
    close(fds[1]);
    fd_ = fds[0];
    began_ = Clock::now();
  }
  ~Worker() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    finish();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] int fd() const { return fd_; }

  /// Takes what the process has written, which must be something or the end; false at the end.
  bool read(const std::function<void(const Report&)>& done) {
    std::array<char, 4096> block;
    const ssize_t size = ::read(fd_, block.data(), block.size());
    if (size <= 0) {
      const std::string end = finish();
      if (running_) done({.finding = end});
      return false;
    }
    text_.append(block.data(), static_cast<size_t>(size));
    for (size_t end = text_.find('\n'); end != std::string::npos; end = text_.find('\n')) {
      const std::string line = text_.substr(0, end);
      text_.erase(0, end + 1);
      began_ = Clock::now();
      running_ = line == "begin";
      if (!running_) done(report_of(line));
    }
    return true;
  }
  /// Ends a process that has been busy with one case for too long.
  void check_time() {
    if (pid_ <= 0 || Clock::now() - began_ < kTimeLimit) return;
    late_ = true;
    kill(pid_, SIGKILL);
  }

 private:
  std::string finish() {
    int status = 0;
    waitpid(pid_, &status, 0);
    close(fd_);
    pid_ = 0;
    if (late_) return fmt::format("hang: not done after {} s", kTimeLimit.count());
    const std::string words = last_words(log_);
    if (WIFSIGNALED(status)) return fmt::format("crash: signal {} {}", WTERMSIG(status), words);
    return fmt::format("crash: exit code {} {}", WEXITSTATUS(status), words);
  }

  pid_t pid_ = 0;
  int fd_ = -1;
  std::string log_;
  std::string text_;
  bool running_ = false;
  bool late_ = false;
  Clock::time_point began_;
};

void wait_for(const std::vector<Worker*>& workers) {
  std::vector<pollfd> ends;
  for (const Worker* worker : workers) ends.push_back({worker->fd(), POLLIN, 0});
  poll(ends.data(), ends.size(), 1000);
  for (size_t i = 0; i < workers.size(); ++i) {
    if (ends[i].revents == 0) workers[i]->check_time();
  }
}

bool readable(const Worker& worker) {
  pollfd end{worker.fd(), POLLIN, 0};
  return poll(&end, 1, 0) > 0;
}

/// One case in a process of its own.
Report judge_apart(Kind& kind, const Case& words) {
  bool given = false;
  const std::function<const Case*()> next = [&]() -> const Case* {
    return std::exchange(given, true) ? nullptr : &words;
  };
  Worker worker(kind, next, "shrink.log");
  Report result;
  bool open = true;
  while (open) {
    wait_for({&worker});
    if (readable(worker)) open = worker.read([&](const Report& report) { result = report; });
  }
  return result;
}

std::string promise(const std::string& finding) { return finding.substr(0, finding.find(':')); }

/// Findings that look alike but for the step, numbers and files in them are most likely one fault.
std::string likeness(const std::string& finding) {
  std::string text;
  std::istringstream parts(finding);
  for (std::string part; parts >> part;) {
    if (part.find_first_of("0123456789.(") == std::string::npos) text += part + " ";
  }
  return text.substr(0, 60);
}

/// "read:300" with half the number; the word itself where there is nothing to halve.
std::string halved(const std::string& word) {
  const size_t colon = word.rfind(':');
  if (colon == std::string::npos || word.starts_with('-')) return word;
  const std::string digits = word.substr(colon + 1);
  if (digits.empty() || digits.size() > 6 ||
      !std::ranges::all_of(digits, [](unsigned char c) { return std::isdigit(c) != 0; })) {
    return word;
  }
  return word.substr(0, colon + 1) + std::to_string((std::stoi(digits) + 1) / 2);
}

/// Leaves out and halves what does not matter to the finding.
Case shrink(Kind& kind, Case words, const std::string& finding) {
  int attempts = 0;
  const auto still = [&](const Case& smaller) {
    ++attempts;
    return promise(judge_apart(kind, smaller).finding) == promise(finding);
  };
  for (bool smaller = true; smaller && attempts < kMostAttempts;) {
    smaller = false;
    for (size_t i = words.size(); i-- > 0 && attempts < kMostAttempts;) {
      Case without = words;
      without.erase(without.begin() + static_cast<std::ptrdiff_t>(i));
      if (still(without)) {
        words = without;
        smaller = true;
        continue;
      }
      Case less = words;
      less[i] = halved(words[i]);
      if (less[i] != words[i] && still(less)) {
        words = less;
        smaller = true;
      }
    }
  }
  return words;
}

std::string fuzz_command(const Kind& kind, const Case& words) {
  return fmt::format("{} {} {}", RESTKV_FUZZ_COMMAND, kind.name(), shell_line(words));
}

class Campaign {
 public:
  Campaign(Kind& kind, const CampaignOptions& options)
      : kind_(kind),
        options_(options),
        deadline_(options.minutes > 0
                      ? Clock::now() +
                            std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double, std::ratio<60>>(options.minutes))
                      : Clock::time_point::max()) {}

  size_t run() {
    std::vector<std::unique_ptr<Worker>> workers(options_.jobs);
    std::vector<uint64_t> numbers(options_.jobs);
    for (size_t job = 0; job < options_.jobs; ++job) {
      numbers[job] = options_.first + job;
      workers[job] = start(job, numbers[job]);
    }
    while (!workers.empty()) {
      std::vector<Worker*> waiting;
      for (const auto& worker : workers) {
        if (worker) waiting.push_back(worker.get());
      }
      if (waiting.empty()) break;
      wait_for(waiting);
      for (size_t job = 0; job < workers.size(); ++job) {
        if (!workers[job] || !readable(*workers[job])) continue;
        const bool open = workers[job]->read([&](const Report& report) {
          take(numbers[job], report);
          numbers[job] += options_.jobs;
        });
        if (findings_.size() >= kMostFindings) return finish();
        if (!open) workers[job] = wanted(numbers[job]) ? start(job, numbers[job]) : nullptr;
      }
    }
    return finish();
  }

 private:
  [[nodiscard]] bool wanted(uint64_t number) const {
    return (options_.cases == 0 || number < options_.first + options_.cases) &&
           Clock::now() < deadline_;
  }
  [[nodiscard]] Case make(uint64_t number) const {
    Random random(options_.seed, number);
    return kind_.make(random);
  }
  std::unique_ptr<Worker> start(size_t job, uint64_t number) {
    Case words;
    const std::function<const Case*()> next = [&]() -> const Case* {
      if (!wanted(number)) return nullptr;
      words = make(number);
      number += options_.jobs;
      return &words;
    };
    return std::make_unique<Worker>(kind_, next, fmt::format("worker{}.log", job));
  }

  void take(uint64_t number, const Report& report) {
    ++cases_;
    if (report.finding.empty()) {
      if (report.refused) ++refused_;
      for (const std::string& name : report.held) ++held_[name];
      return;
    }
    ++failed_;
    if (!findings_.insert(likeness(report.finding)).second) return;
    const Case words = make(number);
    fmt::print("{}\n  seed {}, case {}: {}\n", report.finding, options_.seed, number,
               fuzz_command(kind_, words));
    std::fflush(stdout);
    const Case smaller = shrink(kind_, words, report.finding);
    fmt::print("  in short: {}\n", fuzz_command(kind_, smaller));
    const std::string command = kind_.as_command(smaller);
    if (!command.empty()) fmt::print("  that is: {}\n", command);
    std::fflush(stdout);
  }

  size_t finish() {
    fmt::print("{}: {} cases of seed {}: {} ran, {} were refused, {} failed ({} kinds)\n",
               kind_.name(), cases_, options_.seed, cases_ - refused_ - failed_, refused_, failed_,
               findings_.size());
    for (const auto& [name, count] : held_) fmt::print("  {:<36} {:>7}\n", name, count);
    std::fflush(stdout);
    return failed_;
  }

  Kind& kind_;
  const CampaignOptions& options_;
  Clock::time_point deadline_;
  size_t cases_ = 0;
  size_t refused_ = 0;
  size_t failed_ = 0;
  std::map<std::string, size_t> held_;
  std::set<std::string> findings_;
};

}  // namespace

std::string shell_line(const Case& words) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=:./,+@%";
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    std::string quoted;
    for (const char c : word) {
      if (c == '\'' || c == '\\') {
        quoted += std::string("\\") + c;
      } else if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) > '~') {
        quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      } else {
        quoted += c;
      }
    }
    line += "$'" + quoted + "'";
  }
  return line;
}

size_t run_campaign(Kind& kind, const CampaignOptions& options) {
  return Campaign(kind, options).run();
}

size_t run_case(Kind& kind, const Case& words) {
  const Report report = judge(kind, words);
  if (report.finding.empty()) {
    fmt::print("{}\n", report.refused ? "refused, as it may be" : "nothing found");
    for (const std::string& name : report.held) fmt::print("  {}\n", name);
    return 0;
  }
  fmt::print("{}\n", report.finding);
  return 1;
}

}  // namespace restkv::fuzz
