#include <array>

#include "cli/command.h"

namespace restkv::cli {

std::span<const Command> commands() {
  static constexpr std::array kCommands{
      Command{"run", "Answer from a long prompt with a compressed KV cache", declare_run},
      Command{"ask", "Answer many questions about documents that are read once", declare_ask},
      Command{"batch", "Answer a file of requests in OpenAI's batch format", declare_batch},
      Command{"chat", "Talk with a model whose memory of the conversation stays small",
              declare_chat},
      Command{"serve",
              "Serve a model to many clients: OpenAI's API, documents, a page in the browser",
              declare_serve},
      Command{"inspect", "Show a model's architecture and what budgets would cost",
              declare_inspect},
      Command{"models", "List, fetch and remove models that have names: hf:owner/repository",
              declare_models},
      Command{"methods", "List compression methods, their options, defaults and papers",
              declare_methods},
      Command{"demo", "Compare methods at finding a needle in a haystack, with pictures",
              declare_demo},
      Command{"eval", "Run a benchmark suite with every method at every budget", declare_eval},
      Command{"report", "Tables and pictures of what evaluations have shown", declare_report},
      Command{"calibrate", "Learn from texts what the methods kvzap and triattention need",
              declare_calibrate},
      Command{"bench", "Measure speed and memory, beside the machine's limits", declare_bench},
      Command{"completion", "Print what makes a shell complete commands, options and names",
              declare_completion},
      Command{"man", "Write the manual pages", declare_man},
  };
  return kCommands;
}

std::map<std::string_view, std::function<int()>> declare_all(ArgumentParser& program) {
  program.add_version("restkv " RESTKV_VERSION);
  program.set_footer(
      "Examples:\n"
      "  restkv run -m model.gguf -f document.txt -p 'What does it say about costs?'\n"
      "  restkv chat -m model.gguf -f document.txt\n"
      "  restkv ask -m model.gguf document.txt -q 'Who wrote it?' -q 'When?'\n"
      "restkv COMMAND --help (or restkv help COMMAND) shows a command's options and examples.");
  std::map<std::string_view, std::function<int()>> actions;
  for (const Command& command : commands()) {
    actions[command.name] = command.declare(program.add_command(command.name, command.summary));
  }
  return actions;
}

}  // namespace restkv::cli
