#include "eval/suites/ruler/generator.h"

namespace restkv::eval::ruler {

std::string Setup::text(const char* name) const {
  return prompts->at("base_templates")
      .at(task->at("generator").get<std::string>())
      .at(name)
      .get<std::string>();
}

}  // namespace restkv::eval::ruler
