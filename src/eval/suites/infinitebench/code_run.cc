// code_run: layers of small functions, each calling one of the next layer.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "base/random.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/infinitebench/generator_parts.h"

namespace restkv::eval {
namespace {

struct Function {
  size_t calls = 0;  ///< 0: returns its own argument and the constant.
  int64_t constant = 0;
};

std::string source(size_t id, const Function& function) {
  const std::string called = function.calls == 0 ? "x" : fmt::format("func_{}(x)", function.calls);
  const std::string constant =
      function.constant == 0
          ? ""
          : fmt::format(" {} {}", function.constant < 0 ? '-' : '+', std::abs(function.constant));
  return fmt::format("def func_{}(x):\n    return {}{}\n", id, called, constant);
}

}  // namespace

Json make_code_run(const GeneratedRecord& request) {
  const Json& facts = infinitebench_facts("code_run");
  const Json& layer_counts = facts.at("layers");
  Random random(request.seed, "infinitebench/code_run", request.index);
  const auto layers =
      layer_counts[request.index * layer_counts.size() / request.records].get<size_t>();
  const size_t per_layer = request.size / layers;
  const std::vector<size_t> ids = random.sample(2 * request.size, per_layer * layers);
  const auto id = [&](size_t layer, size_t i) { return 1 + ids[layer * per_layer + i]; };

  std::map<size_t, Function> functions;  // by id, which is their order in the text
  for (size_t layer = 0; layer < layers; ++layer) {
    for (size_t i = 0; i < per_layer; ++i) {
      Function function;
      if (layer + 1 < layers) function.calls = id(layer + 1, random.below(per_layer));
      function.constant = random.between(-12, 17);
      functions[id(layer, i)] = function;
    }
  }
  auto context = facts.at("context_prefix").get<std::string>();
  for (const auto& [number, function] : functions) context += source(number, function) + '\n';

  const size_t asked = id(0, random.below(per_layer));
  const int64_t argument = random.between(-10, 10);
  int64_t value = argument;
  for (size_t next = asked; next != 0; next = functions[next].calls) {
    value += functions[next].constant;
  }
  return infinitebench_record(
      request.index, std::move(context),
      fill_template(facts.at("input").get<std::string>(),
                    {{"a", std::to_string(asked)}, {"x", std::to_string(argument)}}),
      value);
}

}  // namespace restkv::eval
