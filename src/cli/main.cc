#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "cli/argument_parser.h"
#include "cli/command.h"
#include "cli/process.h"

namespace restkv::cli {
namespace {

int run(int argc, char** argv) {
  ArgumentParser parser("restkv",
                        "Long-context language models on CPUs with a small, fixed KV cache");
  parser.add_version("restkv " RESTKV_VERSION);
  parser.set_footer(
      "Examples:\n"
      "  restkv run -m model.gguf -f document.txt --budget 512 --stats\n"
      "  restkv inspect model.gguf\n"
      "  restkv demo -m model.gguf -o report\n"
      "restkv COMMAND --help shows a command's options and examples.");
  std::map<std::string_view, std::function<int()>> actions;
  for (const Command& command : commands()) {
    actions[command.name] = command.declare(parser.add_command(command.name, command.summary));
  }
  if (const auto text = parser.parse({argv + 1, argv + argc})) {
    print(*text);
    return kSuccess;
  }
  return actions.at(parser.command())();
}

}  // namespace
}  // namespace restkv::cli

int main(int argc, char** argv) {
  return restkv::cli::run_main("restkv", [&] { return restkv::cli::run(argc, argv); });
}
