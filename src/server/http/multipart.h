#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::server {

/// One part of a form. A file's name is what the client says, for display: it may hold anything
/// but control characters and must never become a path.
struct FormPart {
  std::string name;
  std::string file_name;     ///< Empty: a plain field.
  std::string content_type;  ///< Empty: text/plain.
  std::string content;
};

struct MultipartLimits {
  size_t parts = 32;
  size_t header_bytes = 4096;  ///< Of one part.
  size_t name_bytes = 256;     ///< Of a name, of a file's name.
};

/// The parts of a body of multipart/form-data (RFC 7578). `content_type`: the header field with the
/// boundary. Throws `HttpError`: 415 for another type, 400 for a form that is broken, 413 for one
/// beyond the limits.
std::vector<FormPart> parse_multipart(std::string_view content_type, std::string_view body,
                                      const MultipartLimits& limits = {});

}  // namespace restkv::server
