#pragma once

#include <CLI/CLI.hpp>

#include "restkv/sampler.h"

namespace restkv::cli {

/// `--temp`, `--top-k`, ...: how the next token is picked.
void declare_sampling(CLI::App& app, SamplingOptions& options);

}  // namespace restkv::cli
