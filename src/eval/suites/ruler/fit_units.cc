#include "eval/suites/ruler/fit_units.h"

#include <fmt/format.h>

#include <algorithm>

#include "eval/fit.h"
#include "restkv/error.h"

namespace restkv::eval::ruler {
namespace {

[[noreturn]] void refuse(const Fit& fit, size_t units, size_t tokens) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} tokens do not suffice: the shortest prompt ({} units of haystack) "
                          "takes {} with its answer; raise the length",
                          fit.length, units, tokens));
}

size_t tokens_of(const Generator& generator, const Fit& fit, const Text& sample,
                 std::string_view answer) {
  const std::string text = fmt::format("{}{}{}", sample.prompt, sample.answer_prefix, answer);
  return fit.count_tokens(text) + generator.extra_tokens() +
         (generator.leaves_room_for_answer() ? fit.tokens_to_generate : 0);
}

}  // namespace

bool fits(const Generator& generator, const Fit& fit, const Text& sample) {
  return tokens_of(generator, fit, sample, "") <= fit.length;
}

size_t fit_units(const Generator& generator, const Fit& fit,
                 const std::function<Text(size_t units)>& make) {
  const size_t step = generator.step();
  const size_t fewest = generator.fewest();
  const size_t available = generator.available();
  // Without room for an answer, a prompt of exactly the length is also too long.
  const size_t limit = generator.leaves_room_for_answer()
                           ? fit.length
                           : fit.length - std::min<size_t>(1, fit.length);
  const auto tokens = [&](size_t steps) {
    const Text sample = make(std::min(fewest + steps * step, available));
    return tokens_of(generator, fit, sample,
                     generator.leaves_room_for_answer() ? sample.fitting_answer : "");
  };
  const size_t least = tokens(0);
  if (least > limit) refuse(fit, fewest, least);
  // A unit is at least a token, except those that frequent_words rounds away.
  const size_t most = std::min(2 * (limit - least) / step + 1,
                               available > fewest ? (available - fewest) / step + 1 : 0);
  // A small first guess suffices to measure the length of a unit.
  const FitRange range{.low = 0, .low_size = least, .high = most + 1, .guess = 1 + most / 128};
  return std::min(fewest + largest_that_fits(range, limit, tokens) * step, available);
}

Text make_fitting(const Generator& generator, const Fit& fit, size_t units,
                  const std::function<Text(size_t units)>& make) {
  while (true) {
    Text sample = make(units);
    if (fits(generator, fit, sample)) return sample;
    if (units <= generator.fewest()) {
      refuse(fit, units, tokens_of(generator, fit, sample, ""));
    }
    units -= std::min(generator.step(), units - generator.fewest());
  }
}

}  // namespace restkv::eval::ruler
