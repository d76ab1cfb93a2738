#pragma once

#include <string>
#include <string_view>

#include "cli/argument_parser.h"

/// The model of a command: a file, or a name at a hub, from the command line or RESTKV_MODEL.
namespace restkv::cli {

inline constexpr std::string_view kModelNames = "-m,--model";

/// Declares `-m,--model`, which may also be the first word without a name, or what `names` say.
/// Without it, `model` is RESTKV_MODEL.
Option& declare_model(ArgumentParser& parser, std::string& model,
                      std::string_view names = kModelNames);

/// Throws `Error` (kInvalidArgument) if there is neither the option nor RESTKV_MODEL, or if the
/// name cannot be one. To be called with the other checks, before the work.
void require_model(const std::string& model);

/// The path of the model's file, or of its first part: `model` itself, or where the model with this
/// name is kept. It is downloaded if it is not there yet, with its progress on standard error. Does
/// what `require_model` does, too. Throws `Error` as `hub::ModelStore` does.
std::string model_file(const std::string& model);

/// The same, also asking the hub whether it has another version by now.
std::string newest_model_file(const std::string& model);

}  // namespace restkv::cli
