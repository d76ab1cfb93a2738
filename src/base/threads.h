#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "restkv/threads.h"

namespace restkv {

/// A reference to a callable, without allocation. The callable must outlive the reference.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef(F&& f)  // NOLINT(google-explicit-constructor): behaves like a parameter of type F
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(o))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/// Which task a thread takes next. `kInOrder`: the first one left, for tasks that take different
/// times, the longest first. `kRuns`: the next one of its own run of neighbouring tasks, as long as
/// there is one, and then of the others', for tasks that read on in memory where the one before
/// ended.
enum class Sharing { kInOrder, kRuns };

/// Runs `body(task, thread)` for every task in [0, tasks); 0 <= thread < num_threads() tells
/// concurrent tasks apart. Tasks must write disjoint data, which makes results independent of
/// scheduling. The first exception thrown by a task is rethrown, after which some tasks may not
/// have run. Calls from within a task are executed by the calling thread alone (as thread 0), in
/// order.
void parallel_for(size_t tasks, FunctionRef<void(size_t task, size_t thread)> body,
                  Sharing sharing = Sharing::kInOrder);

}  // namespace restkv
