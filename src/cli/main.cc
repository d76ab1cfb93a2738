#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>
#include <sstream>
#include <string>
#include <string_view>

#include "cli/command.h"
#include "cli/process.h"
#include "restkv/error.h"

namespace {

using restkv::ErrorCode;

/// What is wrong with the command line, and where to read what is right.
std::string usage_error(const CLI::App& app, const CLI::ParseError& e) {
  const auto chosen = app.get_subcommands();
  if (chosen.empty()) {
    const auto unknown = app.remaining();
    std::string names;
    for (const auto& command : restkv::cli::commands()) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", command.name);
    }
    return fmt::format("{}; commands are {}\nrestkv --help shows what they do.",
                       unknown.empty() ? "no command is given"
                                       : "there is no command or option " + unknown.front(),
                       names);
  }
  std::string reason = e.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&e) != nullptr) {
    reason = fmt::format("unexpected: {}", fmt::join(chosen.front()->remaining(), " "));
  }
  if (const size_t at = reason.find(": At Most 1 required"); at != std::string::npos) {
    reason.replace(at, std::string::npos, " is given more than once; give it once");
  }
  return fmt::format("{}\nrestkv {} --help shows what is expected.", reason,
                     chosen.front()->get_name());
}

/// An empty argument is a variable of a script that was never set; no option has a use for one.
/// CLI11 would drop it, or take the next argument for the value ("--tasks= longbench").
void refuse_empty_arguments(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    if (argument.empty()) {
      const std::string_view before = argv[i - 1];
      throw restkv::Error(
          ErrorCode::kInvalidArgument,
          fmt::format("{} is empty; give a value or leave it out",
                      before.starts_with('-') ? fmt::format("the value of {}", before)
                                              : fmt::format("argument {}", i)));
    }
    const bool is_option = argument.starts_with("--") && argument.size() > 3;
    if (is_option && argument.find_first_of("= \n") == argument.size() - 1 &&
        argument.ends_with('=')) {
      throw restkv::Error(
          ErrorCode::kInvalidArgument,
          fmt::format("{} has no value behind it; give one or leave it out", argument));
    }
  }
}

int run(int argc, char** argv) {
  refuse_empty_arguments(argc, argv);
  CLI::App app("Long-context language models on CPUs with a small, fixed KV cache");
  app.name("restkv");
  app.set_version_flag("--version", "restkv " RESTKV_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  restkv run -m model.gguf -f document.txt --budget 512 --stats\n"
      "  restkv inspect model.gguf\n"
      "  restkv demo -m model.gguf -o report\n"
      "restkv COMMAND --help shows a command's options and examples.");
  std::function<int()> action;
  for (const auto& command : restkv::cli::commands()) {
    CLI::App* sub = app.add_subcommand(std::string(command.name), std::string(command.summary));
    const auto selected = command.declare(*sub);
    sub->callback([&action, selected] { action = selected; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::ostringstream text;  // of --help and --version
    if (app.exit(e, text, text) != 0) {
      throw restkv::Error(ErrorCode::kInvalidArgument, usage_error(app, e));
    }
    restkv::cli::print(text.str());
    return restkv::cli::kSuccess;
  }
  return action();
}

}  // namespace

int main(int argc, char** argv) {
  return restkv::cli::run_main("restkv", [&] { return run(argc, argv); });
}
