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

/// Order in which threads take tasks. `kInOrder`: the first remaining one, for tasks of different
/// lengths, longest first. `kRuns`: the next one of the thread's own run of neighbouring tasks,
/// then of other runs, for tasks that read memory sequentially.
enum class Sharing { kInOrder, kRuns };

/// Runs `body(task, thread)` for every task in [0, tasks), with different 0 <= thread <
/// num_threads() for concurrent tasks. Tasks must write disjoint data, so that results do not
/// depend on scheduling. The first exception of a task is rethrown; remaining tasks may then be
/// skipped. Nested calls run their tasks in order on the calling thread, as thread 0.
void parallel_for(size_t tasks, FunctionRef<void(size_t task, size_t thread)> body,
                  Sharing sharing = Sharing::kInOrder);

}  // namespace restkv
