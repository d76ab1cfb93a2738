#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_file.h"

namespace restkv {

/// What a model of an architecture that is not supported needs and restkv does not have, as its
/// keys, its tensors and its name show: "a recurrent state", "latent attention". Empty if nothing
/// shows. For messages.
std::vector<std::string> missing_features(const GgufFile& file, std::string_view architecture);

}  // namespace restkv
