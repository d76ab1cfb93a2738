#pragma once

#include "eval/suites/infinitebench_generators.h"

/// The generators behind infinitebench_generators(), one file each.
namespace restkv::eval {

nlohmann::json make_passkey(const GeneratedRecord& request);
nlohmann::json make_number_string(const GeneratedRecord& request);
nlohmann::json make_kv_retrieval(const GeneratedRecord& request);
nlohmann::json make_math_find(const GeneratedRecord& request);
nlohmann::json make_math_calc(const GeneratedRecord& request);
nlohmann::json make_code_run(const GeneratedRecord& request);

/// The facts of a task in prompts.json.
const nlohmann::json& infinitebench_facts(std::string_view task);

/// A line of the task's file, without answer options.
nlohmann::json infinitebench_record(size_t id, std::string context, std::string input,
                                    nlohmann::json answer);

}  // namespace restkv::eval
