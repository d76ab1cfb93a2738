#pragma once

#include <functional>
#include <map>
#include <span>
#include <string_view>

#include "cli/argument_parser.h"

namespace restkv::cli {

/// A subcommand of `restkv`: one file, one line in commands.cc.
struct Command {
  std::string_view name;
  std::string_view summary;
  /// Declares the options on `parser` and returns what runs after parsing; its result is the exit
  /// code of the process.
  std::function<int()> (*declare)(ArgumentParser& parser);
};

std::span<const Command> commands();

inline constexpr const char* kProgram = "restkv";
inline constexpr const char* kDescription =
    "Long-context language models on CPUs with a small, fixed KV cache";

/// Declares every command, and what the program itself knows. Returns what runs them, by name.
std::map<std::string_view, std::function<int()>> declare_all(ArgumentParser& program);

std::function<int()> declare_run(ArgumentParser& parser);
std::function<int()> declare_ask(ArgumentParser& parser);
std::function<int()> declare_chat(ArgumentParser& parser);
std::function<int()> declare_serve(ArgumentParser& parser);
std::function<int()> declare_inspect(ArgumentParser& parser);
std::function<int()> declare_models(ArgumentParser& parser);
std::function<int()> declare_methods(ArgumentParser& parser);
std::function<int()> declare_demo(ArgumentParser& parser);
std::function<int()> declare_eval(ArgumentParser& parser);
std::function<int()> declare_report(ArgumentParser& parser);
std::function<int()> declare_batch(ArgumentParser& parser);
std::function<int()> declare_bench(ArgumentParser& parser);
std::function<int()> declare_calibrate(ArgumentParser& parser);
std::function<int()> declare_completion(ArgumentParser& parser);
std::function<int()> declare_man(ArgumentParser& parser);

}  // namespace restkv::cli
