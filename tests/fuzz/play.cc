#include "fuzz/play.h"

#include <malloc.h>

#include "cli/argument_parser.h"
#include "cli/session_flags.h"
#include "restkv/error.h"

namespace restkv::fuzz {

std::vector<Flag> session_flags() {
  cli::ArgumentParser parser("restkv");
  cli::SessionFlags flags;
  flags.declare(parser);
  return flags_of(parser);
}

std::optional<Options> options_of(const std::vector<std::string>& flags) {
  cli::ArgumentParser parser("restkv");
  cli::SessionFlags declared;
  declared.declare(parser);
  try {
    parser.parse(flags);
    Options options{declared.session(), declared.model()};
    if (repeat_chunk(options.session.compression) > 0) {
      options.session.repeat = {
          .first = {1, 2, 3}, .later = {4, 5}, .answer = {6}, .prefix = {7, 8}};
    }
    return options;
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
