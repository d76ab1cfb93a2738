#pragma once

#include <string>

namespace restkv {

/// Redirects the log of ggml and libllama from stderr to memory (once per process). Warnings and
/// errors of this thread are kept for `take_ggml_errors`.
void capture_ggml_log();
/// Messages of this thread since the last call, on one line; empty if there were none.
std::string take_ggml_errors();

}  // namespace restkv
