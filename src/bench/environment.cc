#include "bench/environment.h"

#include <dnnl_version.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <ggml.h>
#include <llama.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>

namespace restkv::bench {

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

void warn_if_busy(double load, std::string_view program) {
  if (load <= 0.5) return;
  std::fputs(fmt::format("{}: the load average is {:.2f}; figures of a busy machine mean little\n",
                         program, load)
                 .c_str(),
             stderr);
}

std::string utc_time() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

Json describe_machine(std::string_view description, double load_before) {
  utsname system{};
  uname(&system);
  return {{"description", description},
          {"processors", std::thread::hardware_concurrency()},
          {"memory_bytes", sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"compiler", __VERSION__},
          {"load_average_before", load_before},
          {"load_average_after", load_average()}};
}

Json describe_software() {
  return {{"restkv", RESTKV_VERSION},
          {"libllama", llama_version()},
          {"ggml", ggml_version()},
          {"ggml_features", llama_print_system_info()},
          {"onednn",
           fmt::format("{}.{}.{}", DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH)}};
}

Json describe_model(const ModelConfig& config) {
  return {{"name", config.name},
          {"architecture", config.architecture},
          {"weight_types", config.weight_types},
          {"file_bytes", config.file_bytes},
          {"layers", config.layers},
          {"query_heads", config.query_heads},
          {"kv_heads", config.kv_heads},
          {"head_dim", config.key_dim},
          {"context_length", config.context_length},
          {"kv_bytes_per_token", config.kv_bytes(1)}};
}

}  // namespace restkv::bench
