#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <span>
#include <string_view>

namespace restkv::cli {

/// A subcommand of `restkv`: one file, one line in commands.cc.
struct Command {
  std::string_view name;
  std::string_view summary;
  /// Declares the options on `app` and returns what runs after parsing; its result is the exit
  /// code of the process.
  std::function<int()> (*declare)(CLI::App& app);
};

std::span<const Command> commands();

std::function<int()> declare_run(CLI::App& app);
std::function<int()> declare_chat(CLI::App& app);
std::function<int()> declare_inspect(CLI::App& app);
std::function<int()> declare_methods(CLI::App& app);
std::function<int()> declare_demo(CLI::App& app);
std::function<int()> declare_eval(CLI::App& app);
std::function<int()> declare_report(CLI::App& app);
std::function<int()> declare_bench(CLI::App& app);

}  // namespace restkv::cli
