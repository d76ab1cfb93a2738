#include "server/service/refusals.h"

#include <cmath>
#include <new>

#include "restkv/error.h"
#include "server/scheduler/request.h"

namespace restkv::server {

HttpError refusal_of(const std::exception_ptr& thrown,
                     const std::function<void(const std::string&)>& error_log) {
  try {
    std::rethrow_exception(thrown);
  } catch (const HttpError& error) {
    return error;
  } catch (const Busy& busy) {
    return {503, busy.what(), {.retry_after = static_cast<int>(std::ceil(busy.retry_after()))}};
  } catch (const Error& error) {
    HttpError refusal = http_error(error);
    // What clients bring about themselves (shutting down, too little memory) is no news.
    const bool is_ours = error.code() == ErrorCode::kIo || error.code() == ErrorCode::kInternal;
    if (is_ours && error_log) error_log(error.what());
    return refusal;
  } catch (const std::bad_alloc&) {
    return http_error(Error(ErrorCode::kOutOfMemory, ""));
  } catch (const std::exception& error) {
    if (error_log) error_log(error.what());
  } catch (...) {
    if (error_log) error_log("an exception of an unknown type");
  }
  return http_error(Error(ErrorCode::kInternal, ""));
}

}  // namespace restkv::server
