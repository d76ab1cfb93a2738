#include "model/ggml_log.h"

#include <ggml-cpu.h>
#include <llama.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace restkv {
namespace {

thread_local std::string t_errors;

void keep_errors(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN) t_errors += text;
}

}  // namespace

void capture_ggml_log() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set(keep_errors, nullptr);
    ggml_cpu_init();  // lookup tables of the half-precision conversions
  });
  t_errors.clear();
}

std::string take_ggml_errors() {
  std::string text = std::exchange(t_errors, {});
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace restkv
