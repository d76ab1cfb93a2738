#pragma once

#include <string>

#include "base/random.h"

namespace restkv::eval {

/// A random UUID, version 4: "09e9db0a-df46-4290-a1ee-411a1bac27a7".
std::string random_uuid(Random& random);

}  // namespace restkv::eval
