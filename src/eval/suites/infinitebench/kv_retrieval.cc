// kv_retrieval: one of thousands of random pairs, at evenly spread places.
#include <fmt/format.h>

#include "base/random.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/infinitebench/generator_parts.h"
#include "eval/suites/infinitebench/uuid.h"

namespace restkv::eval {

Json make_kv_retrieval(const GeneratedRecord& request) {
  Random random(request.seed, "infinitebench/kv_retrieval", request.index);
  const size_t wanted = request.index * request.size / request.records;
  std::string context = "JSON data:\n{";
  std::string wanted_key;
  std::string wanted_value;
  for (size_t i = 0; i < request.size; ++i) {
    const std::string key = random_uuid(random);
    const std::string value = random_uuid(random);
    context += fmt::format(R"({}"{}": "{}")", i > 0 ? ", " : "", key, value);
    if (i != wanted) continue;
    wanted_key = key;
    wanted_value = value;
  }
  context += '}';
  const auto input = infinitebench_facts("kv_retrieval").at("input").get<std::string>();
  return infinitebench_record(request.index, std::move(context),
                              fill_template(input, {{"key", wanted_key}}), wanted_value);
}

}  // namespace restkv::eval
