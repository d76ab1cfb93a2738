#pragma once

#include <string>

#include "document/document.h"

namespace restkv::document {

/// Text in UTF-8 without zero bytes, of bytes in an encoding of `to_utf8`, or in one that the
/// content type, an XML declaration or a `meta` element at the beginning declares. Bytes that are
/// UTF-8 are read as such whatever is declared. Throws `Error` (kInput) as `to_utf8` does, and for
/// a declaration that is unknown or does not fit the bytes.
std::string decode_text(std::string bytes, const Source& source);

}  // namespace restkv::document
