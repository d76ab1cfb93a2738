#include "model/architecture.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::array kArchitectures{
    Architecture{.name = "llama",
                 .families = "Llama 2/3, Mistral, SmolLM2, TinyLlama",
                 .rope = RopeStyle::kNeighbours},
};

}  // namespace

const Architecture& find_architecture(std::string_view name) {
  std::string known;
  for (const Architecture& row : kArchitectures) {
    if (row.name == name) return row;
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", row.name, row.families);
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("the architecture '{}' is not supported; known: {}", name, known));
}

}  // namespace restkv
