#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "eval/fit.h"
#include "eval/suite.h"
#include "eval/suites/infinitebench/generator_parts.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

Json first_record(const InfiniteBenchGenerator& generator, size_t size, uint64_t seed) {
  return generator.make({.index = 0, .records = generator.records, .size = size, .seed = seed});
}

}  // namespace

const Json& infinitebench_facts(std::string_view task) {
  return benchmark_prompts().at("infinitebench").at("synthetic_generators").at(task);
}

Json infinitebench_record(size_t id, std::string context, std::string input, Json answer) {
  return {{"id", id},
          {"context", std::move(context)},
          {"input", std::move(input)},
          {"answer", std::move(answer)},
          {"options", Json::array()}};
}

std::span<const InfiniteBenchGenerator> infinitebench_generators() {
  static constexpr std::array kGenerators = {
      InfiniteBenchGenerator{"passkey", "noise lines", 5220, 1, 590, make_passkey},
      InfiniteBenchGenerator{"number_string", "noise lines", 5220, 1, 590, make_number_string},
      InfiniteBenchGenerator{"kv_retrieval", "pairs", 2500, 1, 500, make_kv_retrieval},
      InfiniteBenchGenerator{"math_find", "numbers", 60000, 3, 350, make_math_find},
      InfiniteBenchGenerator{"math_calc", "numbers", 30000, 2, 50, make_math_calc},
      InfiniteBenchGenerator{"code_run", "functions", 550, 10, 400, make_code_run},
  };
  return kGenerators;
}

const InfiniteBenchGenerator* find_infinitebench_generator(std::string_view task) {
  const auto generators = infinitebench_generators();
  const auto found = std::ranges::find(generators, task, &InfiniteBenchGenerator::task);
  return found == generators.end() ? nullptr : &*found;
}

size_t fit_infinitebench(const InfiniteBenchGenerator& generator, size_t limit, uint64_t seed,
                         const std::function<size_t(const Json&)>& count_tokens) {
  const auto tokens = [&](size_t size) {
    return count_tokens(first_record(generator, size, seed));
  };
  const size_t fewest = tokens(generator.smallest);
  if (fewest > limit) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("InfiniteBench {}: {} tokens have no room for a prompt of {} {}, which "
                            "takes {}; raise the length",
                            generator.task, limit, generator.smallest, generator.unit, fewest));
  }
  // No unit is shorter than a token.
  const FitRange range{.low = generator.smallest,
                       .low_size = fewest,
                       .high = generator.smallest + limit - fewest + 1,
                       .guess = generator.smallest + 16};
  return largest_that_fits(range, limit, tokens);
}

}  // namespace restkv::eval
