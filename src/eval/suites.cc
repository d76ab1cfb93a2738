#include <fmt/format.h>

#include <array>

#include "base/find_named.h"
#include "eval/suite.h"
#include "eval/suites/code/code_completion.h"
#include "eval/suites/code/humaneval.h"
#include "eval/suites/infinitebench/infinitebench.h"
#include "eval/suites/longbench/longbench.h"
#include "eval/suites/multiple_choice/choice_suites.h"
#include "eval/suites/niah/niah.h"
#include "eval/suites/own_prompts/own_prompts.h"
#include "eval/suites/perplexity/perplexity.h"
#include "eval/suites/ruler/ruler.h"
#include "restkv/error.h"

namespace restkv::eval {

std::span<const Suite> suites() {
  static const std::array kSuites = {niah_suite(),
                                     ruler_suite(),
                                     longbench_suite(),
                                     humaneval_suite(),
                                     code_completion_suite(),
                                     infinitebench_suite(),
                                     anli_suite(),
                                     glue_suite(),
                                     superglue_suite(),
                                     perplexity_suite(),
                                     own_prompts_suite()};
  return kSuites;
}

const Suite& find_suite(std::string_view name) {
  return find_named(suites(), &Suite::name, name, "there is no benchmark suite '{}'; known: {}");
}

Scores mean_scores(std::span<const Scores> samples) {
  Scores means;
  for (const Scores& sample : samples) {
    if (means.empty()) means = Scores(sample.size());
    for (size_t i = 0; i < sample.size() && i < means.size(); ++i) {
      means[i].first = sample[i].first;
      means[i].second += 100 * sample[i].second / static_cast<double>(samples.size());
    }
  }
  return means;
}

}  // namespace restkv::eval
