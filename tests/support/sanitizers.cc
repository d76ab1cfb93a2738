#include "support/sanitizers.h"

namespace restkv::testing {

bool sanitized() { return RESTKV_SANITIZED; }

}  // namespace restkv::testing
