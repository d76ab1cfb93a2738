#include "base/caught_error.h"

#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <new>

namespace restkv {

Error caught_error() {
  try {
    throw;
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kOutOfMemory,
            "out of memory; use a shorter prompt or a smaller model, or raise the limit "
            "(ulimit -v)"};
  } catch (const std::filesystem::filesystem_error& e) {
    return {ErrorCode::kIo, e.what()};
  } catch (const std::exception& e) {
    return {ErrorCode::kInternal,
            fmt::format("unexpected error ({}); please report it with what led to it", e.what())};
  } catch (...) {
    return {ErrorCode::kInternal,
            "unexpected error of unknown kind; please report it with what led to it"};
  }
}

}  // namespace restkv
