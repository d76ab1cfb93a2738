#pragma once

#include <string>

#include "make_model/random_model.h"

namespace restkv::testing {

/// Writes a `llama` model with sliding windows in a form that libllama supports. libllama ignores
/// windows in `llama` files (also of Mistral v0.1). `granite_swa` is the same network with windows
/// and with attention sinks, whose weight is set to 0.
void write_windowed_llama(const RandomModel& model, const std::string& path);

}  // namespace restkv::testing
