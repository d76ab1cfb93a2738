// passkey and number_string: a line with digits, at all depths of a text of one repeated line.
#include <algorithm>
#include <string>
#include <vector>

#include "base/random.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/infinitebench/generator_parts.h"

namespace restkv::eval {
namespace {

/// Lines between two depths: as published for the published sizes, else a 58th of the text (which
/// is what most of those are).
size_t depth_step(size_t lines) {
  const Json& facts = infinitebench_facts("passkey");
  const Json& published = facts.at("noise_lines");
  for (size_t i = 0; i < published.size(); ++i) {
    if (published[i] == lines) return facts.at("depth_step")[i].get<size_t>();
  }
  constexpr size_t kIntervals = 58;
  return std::max<size_t>(1, lines / kIntervals);
}

Json hide(std::string_view task, const GeneratedRecord& request, const std::string& digits) {
  const Json& facts = infinitebench_facts(task);
  const auto noise = facts.at("noise_line").get<std::string>();
  const size_t step = depth_step(request.size);
  const size_t depths = request.size / step + 1;
  const size_t before = request.index * depths / request.records * step;
  std::string context;
  for (size_t i = 0; i <= request.size; ++i) {
    if (i == before) {
      context += fill_template(facts.at("key_line").get<std::string>(), {{"key", digits}});
    }
    if (i < request.size) context += noise;
  }
  return infinitebench_record(request.index, std::move(context),
                              facts.at("input").get<std::string>(), digits);
}

char random_digit(Random& random) { return static_cast<char>('0' + random.below(10)); }

}  // namespace

Json make_passkey(const GeneratedRecord& request) {
  Random random(request.seed, "infinitebench/passkey", request.index);
  std::string digits(5, '0');
  for (char& digit : digits) digit = random_digit(random);
  return hide("passkey", request, digits);
}

Json make_number_string(const GeneratedRecord& request) {
  Random random(request.seed, "infinitebench/number_string", request.index);
  std::string digits(5, '0');
  for (char& digit : digits) digit = random_digit(random);
  // Repeated digits make this harder than a pass key.
  while (digits.size() < 10) {
    const size_t position = random.below(digits.size());
    digits.insert(position, 1, digits[position]);
  }
  return hide("number_string", request, digits);
}

}  // namespace restkv::eval
