#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <new>
#include <string>

#include "cli/command.h"
#include "cli/process.h"
#include "restkv/error.h"

namespace {

using restkv::ErrorCode;

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return restkv::cli::kUsage;
    case ErrorCode::kInterrupted:
      return restkv::cli::kInterruptedExit;
    default:
      return restkv::cli::kFailure;
  }
}

int run(int argc, char** argv) {
  CLI::App app("Long-context language models on CPUs with a small, fixed KV cache");
  app.name("restkv");
  app.set_version_flag("--version", "restkv " RESTKV_VERSION);
  app.require_subcommand(1);
  app.footer("restkv COMMAND --help shows a command's options and examples.");
  std::function<int()> action;
  for (const auto& command : restkv::cli::commands()) {
    CLI::App* sub = app.add_subcommand(std::string(command.name), std::string(command.summary));
    const auto selected = command.declare(*sub);
    sub->callback([&action, selected] { action = selected; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? restkv::cli::kSuccess : restkv::cli::kUsage;
  }
  return action();
}

}  // namespace

int main(int argc, char** argv) {
  restkv::cli::install_signal_handlers();
  const auto report = [](const std::string& message) {
    std::fputs(("restkv: " + message + "\n").c_str(), stderr);
  };
  try {
    return run(argc, argv);
  } catch (const restkv::Error& e) {
    report(e.what());
    return exit_code(e.code());
  } catch (const std::bad_alloc&) {
    report("out of memory; use a shorter prompt or a smaller model");
  } catch (const std::exception& e) {
    report(e.what());
  }
  return restkv::cli::kFailure;
}
