#pragma once

#include <string>

#include "cli/argument_parser.h"

namespace restkv::cli {

/// Declares `-m,--model`, which may also be the first word without a name: that of a GGUF file.
Option& declare_model(ArgumentParser& parser, std::string& model);

}  // namespace restkv::cli
