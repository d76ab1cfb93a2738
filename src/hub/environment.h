#pragma once

#include <filesystem>
#include <string>

namespace restkv::hub {

/// The folder of downloaded models: RESTKV_MODELS, or restkv/models below XDG_CACHE_HOME, or below
/// ~/.cache. A variable that is empty counts as not set. Throws `Error` (kInput) if there is none.
std::filesystem::path models_folder();

/// Where the hub is: HF_ENDPOINT or https://huggingface.co, without a slash at the end. Throws
/// `Error` (kInput) if it is no http or https address.
std::string hub_endpoint();

/// HF_TOKEN, or nothing. Throws `Error` (kInput) if it cannot be a token.
std::string hub_token();

}  // namespace restkv::hub
