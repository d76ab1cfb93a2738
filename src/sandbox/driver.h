#pragma once

namespace restkv::eval {

/// The Python that runs a program inside the sandbox (driver.py).
const char* sandbox_driver();

}  // namespace restkv::eval
