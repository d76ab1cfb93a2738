#pragma once

namespace restkv::testing {

/// Whether the libraries are built with a sanitizer, which uses additional memory and address
/// space.
bool sanitized();

}  // namespace restkv::testing
