#pragma once

namespace restkv::testing {

/// Whether the libraries are looked at by a sanitizer, which takes memory and address space of its
/// own.
bool sanitized();

}  // namespace restkv::testing
