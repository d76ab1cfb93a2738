// Random cases for the engine and the command line: script/fuzz --help.

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "cli/argument_parser.h"
#include "fuzz/campaign.h"
#include "fuzz/command_case.h"
#include "fuzz/session_case.h"
#include "fuzz/together_case.h"
#include "support/tiny_model.h"

// Fresh memory is full of NaN under AddressSanitizer, where a run can be told so only at its start.
extern "C" const char* __asan_default_options();   // NOLINT
extern "C" const char* __asan_default_options() {  // NOLINT
  return "malloc_fill_byte=255:max_malloc_fill_size=268435456";
}

namespace {

using namespace restkv::fuzz;  // NOLINT(google-build-using-namespace)

std::vector<std::unique_ptr<Kind>> kinds() {
  std::vector<std::unique_ptr<Kind>> all;
  all.push_back(session_kind());
  all.push_back(together_kind());
  all.push_back(command_kind());
  return all;
}

int run(int argc, char** argv) {
  restkv::cli::ArgumentParser parser(
      "restkv_fuzz",
      "Runs random cases and says which break a promise; with WORDS, that case alone");
  CampaignOptions options;
  std::string folder;
  std::vector<std::string> words;
  const restkv::cli::Option& seed =
      parser.add("--seed", options.seed, "seed of the cases", "N").default_text("a new one");
  parser.add("--first", options.first, "number of the first case", "N");
  parser.add("--cases", options.cases, "cases of each kind; 0: as many as there is time for", "N");
  parser.add("--minutes", options.minutes,
             "time for all kinds together; 0: until all cases are done", "X");
  parser.add("-j,--jobs", options.jobs, "cases at a time", "N");
  parser.add("--folder", folder,
             "keep models and other files in this folder (default: a new one, removed at the end)",
             "DIR");
  parser.add_rest(words);
  parser.set_footer("[KIND [WORDS...]]: session, together or command, and the words of one case");
  if (const auto text = parser.parse({argv + 1, argv + argc})) {
    fmt::print("{}", *text);
    return 0;
  }
  if (words.empty() && options.cases == 0 && options.minutes <= 0) options.minutes = 1;

  std::optional<restkv::testing::TemporaryFolder> temporary;
  if (folder.empty()) folder = temporary.emplace().path().string();
  std::filesystem::create_directories(folder);
  std::filesystem::current_path(folder);

  if (!seed.given()) options.seed = std::random_device()() % 1000000;
  std::vector<std::unique_ptr<Kind>> chosen = kinds();
  if (!words.empty()) {
    std::erase_if(chosen, [&](const auto& kind) { return kind->name() != words[0]; });
    if (chosen.empty()) {
      fmt::print(stderr,
                 "there is no kind of case \"{}\"; known are session, together and command\n",
                 words[0]);
      return 2;
    }
    words.erase(words.begin());
    if (!words.empty()) return run_case(*chosen[0], words) == 0 ? 0 : 1;
  }
  options.minutes /= static_cast<double>(chosen.size());
  size_t findings = 0;
  for (const auto& kind : chosen) findings += run_campaign(*kind, options);
  return findings == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "restkv_fuzz: {}\n", e.what());
    return 2;
  }
}
