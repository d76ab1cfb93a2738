#include "cli/sampling_flags.h"

namespace restkv::cli {

void declare_sampling(CLI::App& app, SamplingOptions& options) {
  constexpr const char* kGroup = "Sampling (names as in libllama)";
  const auto add = [&](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->capture_default_str()->group(kGroup)->type_name("X");
  };
  add("--temp", options.temperature, "temperature; 0 picks the most likely token");
  add("--top-k", options.top_k, "keep the k most likely tokens; 0 is off");
  add("--top-p", options.top_p, "keep the most likely tokens up to this mass; 1 is off");
  add("--min-p", options.min_p, "drop tokens below this share of the best; 0 is off");
  add("--repeat-last-n", options.repeat_last_n, "tokens the penalties look back on");
  add("--repeat-penalty", options.repeat_penalty, "1 is off");
  add("--presence-penalty", options.presence_penalty, "0 is off");
  add("--frequency-penalty", options.frequency_penalty, "0 is off");
  add("-s,--seed", options.seed, "seed of the random choice");
}

}  // namespace restkv::cli
