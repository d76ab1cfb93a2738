#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/caught_error.h"
#include "cli/argument_parser.h"
#include "cli/command.h"
#include "cli/foreign_flags.h"
#include "cli/process.h"
#include "cli/settings_file.h"
#include "cli/shared_model.h"
#include "cluster/cluster.h"

namespace restkv::cli {
namespace {

/// "help run" and "version", as other programs are asked.
std::vector<std::string> usual_words(std::vector<std::string> words) {
  if (words.empty()) return words;
  if (words.front() == "version") words.front() = "--version";
  if (words.front() != "help") return words;
  words.erase(words.begin());
  words.emplace_back("--help");
  return words;
}

/// Runs a command as one of the processes that were started together.
int run_with_others(std::string_view command, const std::function<int()>& action) {
  Communicator& all = cluster();
  try {
    if (command != "run" && command != "eval") {
      require_one_process(all, fmt::format("restkv {}", command));
    }
    return action();
  } catch (...) {
    if (all.rank() == 0) throw;
    const Error error = caught_error();
    // Rank 0, which most likely fails for the same reason, says so and ends all.
    std::this_thread::sleep_for(std::chrono::seconds(1));
    throw Error(error.code(), fmt::format("{}: {}", name_of_this_process(all), error.what()));
  }
}

int run(int argc, char** argv) {
  ArgumentParser parser(kProgram, kDescription);
  const std::map<std::string_view, std::function<int()>> actions = declare_all(parser);
  const std::vector<Setting> settings = read_settings();
  check_settings(settings, parser);
  parser.set_translation([&](std::vector<std::string> words, ArgumentParser& command) {
    words = translate_foreign_flags(std::move(words), command);
    return with_settings(settings, command.with_first_word_named(std::move(words)), command);
  });
  if (const auto text = parser.parse(usual_words({argv + 1, argv + argc}))) {
    print_page(*text);
    return kSuccess;
  }
  return run_with_others(parser.command(), actions.at(parser.command()));
}

}  // namespace
}  // namespace restkv::cli

int main(int argc, char** argv) {
  return restkv::leave_cluster(
      restkv::cli::run_main("restkv", [&] { return restkv::cli::run(argc, argv); }));
}
