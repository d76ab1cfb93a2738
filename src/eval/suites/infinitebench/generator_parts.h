#pragma once

#include "eval/suites/infinitebench/generators.h"

/// The generators behind infinitebench_generators(), one file each.
namespace restkv::eval {

Json make_passkey(const GeneratedRecord& request);
Json make_number_string(const GeneratedRecord& request);
Json make_kv_retrieval(const GeneratedRecord& request);
Json make_math_find(const GeneratedRecord& request);
Json make_math_calc(const GeneratedRecord& request);
Json make_code_run(const GeneratedRecord& request);

/// The facts of a task in prompts.json.
const Json& infinitebench_facts(std::string_view task);

/// A line of the task's file, without answer options.
Json infinitebench_record(size_t id, std::string context, std::string input, Json answer);

}  // namespace restkv::eval
