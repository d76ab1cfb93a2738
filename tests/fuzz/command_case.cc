#include "fuzz/command_case.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>

#include "cli/command.h"
#include "cli/spawn.h"
#include "fuzz/files.h"
#include "fuzz/flags.h"

namespace restkv::fuzz {
namespace {

using testing::Outcome;
using testing::restkv_process;
using testing::restkv_program;
using testing::Spawn;

/// The exit code of a process that a sanitizer has ended.
constexpr int kSanitizer = 99;

std::vector<Flag> declared(std::function<int()> (*declare)(cli::ArgumentParser&)) {
  cli::ArgumentParser parser("restkv");
  declare(parser);
  return flags_of(parser);
}

bool is_line(const std::string& word) { return word.starts_with('<'); }

std::string line_of(const std::string& word) {
  constexpr std::string_view kWords = "<words:";
  return word.starts_with(kWords) ? words(std::stoul(word.substr(kWords.size()))) : word.substr(1);
}

/// Arguments and standard input.
Spawn spawn_of(const Case& words) {
  Spawn spawn;
  for (const std::string& word : words) {
    if (is_line(word)) {
      spawn.input += line_of(word) + "\n";
    } else {
      spawn.arguments.push_back(word);
    }
  }
  return spawn;
}

/// A working folder that holds links to the files which a case names, and nothing else: what one
/// command writes is not there for the next.
class CleanFolder {
 public:
  explicit CleanFolder(const Case& words)
      : before_(std::filesystem::current_path()),
        path_(before_ / fmt::format("command-{}", getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
    std::filesystem::current_path(path_);
    for (const std::string& word : words) {
      const std::string name = word.substr(word.find_first_of("= ") + 1);
      std::error_code odd_name;
      if (std::filesystem::is_regular_file(before_ / name, odd_name)) {
        std::filesystem::create_symlink(before_ / name, name, odd_name);
      }
    }
  }
  ~CleanFolder() {
    std::error_code ignored;
    std::filesystem::current_path(before_, ignored);
    std::filesystem::remove_all(path_, ignored);
  }
  CleanFolder(const CleanFolder&) = delete;
  CleanFolder& operator=(const CleanFolder&) = delete;

 private:
  std::filesystem::path before_;
  std::filesystem::path path_;
};

/// What comes with a command's own process: how it fills memory, and how sanitizers end it.
Outcome run_filled(const Case& words, int fill) {
  const CleanFolder folder(words);
  setenv("MALLOC_PERTURB_", std::to_string(fill).c_str(), 1);
  setenv("ASAN_OPTIONS",
         fmt::format("exitcode={}:malloc_fill_byte={}:max_malloc_fill_size={}", kSanitizer, fill,
                     1 << 28)
             .c_str(),
         1);
  setenv("UBSAN_OPTIONS", fmt::format("exitcode={}:print_stacktrace=1", kSanitizer).c_str(), 1);
  return restkv_process(spawn_of(words));
}

/// The lines of standard error that matter, without what differs from run to run.
std::string essence(const std::string& err) {
  std::string text = err.substr(0, 400);
  std::ranges::replace(text, '\n', ' ');
  return text;
}

void check_exit(const Outcome& outcome) {
  if (outcome.signal == SIGKILL) throw Finding("hang", essence(outcome.err));
  if (outcome.signal != 0) {
    throw Finding("crash", fmt::format("signal {}: {}", outcome.signal, essence(outcome.err)));
  }
  if (outcome.exit_code == kSanitizer) {
    const size_t begin = std::min(
        {outcome.err.find("ERROR: "), outcome.err.find("runtime error: "), outcome.err.size()});
    throw Finding("sanitizer", essence(outcome.err.substr(begin)));
  }
  if (outcome.exit_code < 0 || outcome.exit_code > 2) {
    throw Finding("exit", fmt::format("code {}: {}", outcome.exit_code, essence(outcome.err)));
  }
  if (outcome.exit_code != 0 && outcome.err.find("restkv: ") == std::string::npos) {
    throw Finding("exit", fmt::format("code {} without a message", outcome.exit_code));
  }
  // Words of the C++ library, or blame on a file that is sound.
  for (const std::string_view raw :
       {"std::", "vector", "basic_string", "bad_alloc", "stoi", "stod", "_M_", "json.exception",
        "terminate called", "codepoint", "damaged", "computed NaN"}) {
    const size_t found = outcome.err.find(raw);
    if (found == std::string::npos) continue;
    const size_t begin = found > 100 ? found - 100 : 0;
    throw Finding("message", essence(outcome.err.substr(begin)));
  }
  if (outcome.exit_code == 2 && !outcome.out.empty()) {
    throw Finding("refusals",
                  fmt::format("after \"{}\": {}", outcome.out.substr(0, 60), essence(outcome.err)));
  }
}

/// Unless the case says itself how many.
Case with_threads(Case words, int threads) {
  if (value_of(words, "threads").empty()) words.push_back(fmt::format("--threads={}", threads));
  return words;
}

class CommandKind : public Kind {
 public:
  CommandKind() : run_(declared(cli::declare_run)), chat_(declared(cli::declare_chat)) {}

  [[nodiscard]] std::string_view name() const override { return "command"; }

  Case make(Random& random) override {
    const bool chat = random.once_in(3);
    const std::vector<Flag>& flags = chat ? chat_ : run_;
    const std::string model = any_model_file(random);
    Case words{chat ? "chat" : "run", "--model=" + model};
    std::vector<Flag> optional;
    for (const Flag& flag : flags) {
      // Given below, of no use with these files (grammars, folders), or with times in what it
      // prints.
      constexpr std::array kGiven{"model",      "prompt", "file",        "threads", "max-tokens",
                                  "load-cache", "glob",   "json-schema", "grammar", "json"};
      if (std::ranges::find(kGiven, flag.name) == kGiven.end()) optional.push_back(flag);
    }
    const std::vector<std::string> options = session_words(random, optional, model);
    words.insert(words.end(), options.begin(), options.end());
    constexpr std::array kTokens{1, 2, 5, 20};
    words.push_back(fmt::format("--max-tokens={}", random.any(kTokens)));
    if (chat) {
      // Otherwise the sampler remembers what a saved conversation forgets.
      for (const char* flag : {"temp=0", "repeat-penalty=1"}) {
        const std::string_view name(flag, std::string_view(flag).find('='));
        if (value_of(words, name).empty()) words.push_back(fmt::format("--{}", flag));
      }
      add_lines(random, words);
    } else {
      words.push_back("--file=" + any_text_file(random));
    }
    if (random.once_in(3)) {
      for (size_t i = 1 + random.below(2); i > 0; --i)
        replace(words, odd(random, random.any(flags)));
    }
    return words;
  }

  Verdict run(const Case& words) override {
    if (words.empty() || (words[0] != "run" && words[0] != "chat")) return {.refused = true};
    const std::string model = value_of(words, "model");
    if (model.starts_with("tiny-")) make_model_file(model);
    if (!value_of(words, "file").empty()) make_text_file(value_of(words, "file"));

    const Outcome plain = run_filled(with_threads(words, 1), 0x55);
    check_exit(plain);
    // A chat goes on after a line that fails, and says so at its end.
    const bool ran = plain.exit_code == 0 || (words[0] == "chat" && plain.exit_code == 1);
    Verdict verdict{.refused = !ran, .held = {"exit, message"}};
    if (!ran) {
      if (words[0] == "run" && model.starts_with("tiny-") &&
          value_of(words, "load-cache").empty()) {
        check_refusal(words, model, plain);
        verdict.held.emplace_back("refusals");
      }
      return verdict;
    }
    const Outcome again = run_filled(with_threads(words, 2), 0xAA);
    if (again.out != plain.out || again.exit_code != plain.exit_code) {
      throw Finding("repeated", fmt::format("\"{}\" against \"{}\" {}", again.out.substr(0, 60),
                                            plain.out.substr(0, 60), essence(again.err)));
    }
    verdict.held.emplace_back("repeated");
    if (words[0] == "chat" && undisturbed(words)) {
      check_saved(words, plain);
      verdict.held.emplace_back("saved");
    }
    return verdict;
  }

  [[nodiscard]] std::string as_command(const Case& words) const override {
    const Spawn spawn = spawn_of(words);
    const std::string command = fmt::format("{} {}", restkv_program(), shell_line(spawn.arguments));
    const std::string input =
        spawn.input.empty() ? "" : fmt::format("printf %s {} | ", shell_line({spawn.input}));
    return fmt::format("cd {} && {}{}", std::filesystem::current_path().string(), input, command);
  }

 private:
  static void add_lines(Random& random, Case& words) {
    for (size_t i = 1 + random.below(8); i > 0; --i) {
      constexpr std::array kTurns{"<words:1", "<words:10", "<words:60", "<words:150"};
      constexpr std::array kCommands{"</budget 50", "</budget 200", "</budget 33", "</stats"};
      static const std::vector<std::string> kJunk{"</budget -1",
                                                  "</budget 0",
                                                  "</budget 1",
                                                  "</budget 2147483647",
                                                  "</budget x",
                                                  "</budget nan",
                                                  "</load .",
                                                  "</load binary.bin",
                                                  "</load missing",
                                                  "</save missing/x",
                                                  "</save",
                                                  "</load",
                                                  "</quitx",
                                                  "</",
                                                  "<",
                                                  "<\xFF\xFE",
                                                  "<a\xE2\x98\x83 b",
                                                  std::string("<a\0b", 4),
                                                  "</reset",
                                                  "</help",
                                                  "</kept",
                                                  "</file missing"};
      switch (random.below(5)) {
        case 0:
          words.emplace_back(random.any(kCommands));
          break;
        case 1:
          words.push_back(random.any(kJunk));
          break;
        default:
          words.emplace_back(random.any(kTurns));
      }
    }
    make_text_file("binary.bin");
  }

  /// Puts a flag in the place of the one of the same name.
  static void replace(Case& words, const std::string& word) {
    const auto name = [](const std::string& w) { return w.substr(0, w.find('=')); };
    // Endless with compact positions, and rightly so.
    if (name(word) == "--max-tokens" && value_of(words, "positions") == "compact") return;
    std::erase_if(words, [&](const std::string& w) { return name(w) == name(word); });
    words.push_back(word);
  }

  static void check_refusal(const Case& words, const std::string& model, const Outcome& plain) {
    const std::string twin = damaged_twin(model);
    make_model_file(twin);
    Case blind = words;
    std::ranges::replace(blind, "--model=" + model, "--model=" + twin);
    Outcome outcome = run_filled(with_threads(blind, 1), 0x55);
    for (size_t at = outcome.err.find(twin); at != std::string::npos; at = outcome.err.find(twin)) {
      outcome.err.replace(at, twin.size(), model);
    }
    if (outcome.exit_code != plain.exit_code || outcome.err != plain.err) {
      throw Finding("refusals",
                    fmt::format("only once something is computed: {}", essence(plain.err)));
    }
  }

  /// Whether lines stay lines when others come between them (a first line of two bytes may make all
  /// of them UTF-16), and the next token depends on nothing but what was said (a sampler forgets
  /// when a conversation is loaded).
  static bool undisturbed(const Case& words) {
    if (value_of(words, "temp") != "0" || value_of(words, "repeat-penalty") != "1") return false;
    return std::ranges::none_of(words, [](const std::string& word) {
      return word.starts_with("--presence-penalty") || word.starts_with("--frequency-penalty") ||
             word.starts_with("</reset") || word.starts_with("</load") ||
             word.starts_with("<\xFF\xFE");
    });
  }

  static void check_saved(const Case& words, const Outcome& plain) {
    const std::string path = "chat.rkv";
    Case saving;
    for (const std::string& word : words) {
      saving.push_back(word);
      if (!is_line(word)) continue;
      for (const std::string& line : {"</save " + path, std::string("</reset"), "</load " + path}) {
        saving.push_back(line);
      }
    }
    const Outcome outcome = run_filled(with_threads(saving, 1), 0x55);
    check_exit(outcome);
    if (outcome.out != plain.out) {
      throw Finding("saved", fmt::format("\"{}\" against \"{}\"", outcome.out.substr(0, 60),
                                         plain.out.substr(0, 60)));
    }
  }

  std::vector<Flag> run_;
  std::vector<Flag> chat_;
};

}  // namespace

std::unique_ptr<Kind> command_kind() { return std::make_unique<CommandKind>(); }

}  // namespace restkv::fuzz
