#include "fuzz/play.h"

#include <malloc.h>

#include <CLI/CLI.hpp>

#include "cli/session_flags.h"
#include "restkv/error.h"

namespace restkv::fuzz {

std::vector<Flag> session_flags() {
  CLI::App app;
  cli::SessionFlags flags;
  flags.declare(app);
  return flags_of(app);
}

std::optional<Options> options_of(const std::vector<std::string>& flags) {
  CLI::App app;
  cli::SessionFlags declared;
  declared.declare(app);
  std::vector<std::string> words(flags.rbegin(), flags.rend());
  try {
    app.parse(words);
    return Options{declared.session(), declared.model()};
  } catch (const CLI::ParseError&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void fill_memory(int byte) {
#ifdef M_PERTURB
  mallopt(M_PERTURB, byte);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // pages fresh from the system are always zero
#else
  static_cast<void>(byte);
#endif
}

int32_t nth_token(uint64_t n, std::string_view text) {
  const uint64_t different = text == "one" ? 1 : text == "few" ? 7 : 1000;
  const uint64_t mixed = (n * 0x9E3779B97F4A7C15U) >> 40U;
  return static_cast<int32_t>(mixed % different);
}

}  // namespace restkv::fuzz
