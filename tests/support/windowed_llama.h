#pragma once

#include <string>

#include "make_model/random_model.h"

namespace restkv::testing {

/// Writes a `llama` model with sliding windows so that libllama honours them. It reads no window
/// from `llama` files (Mistral v0.1 runs there without); `granite_swa` is the same network with
/// windows, and with attention sinks, which are set to weigh nothing.
void write_windowed_llama(const RandomModel& model, const std::string& path);

}  // namespace restkv::testing
