#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

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

/// Threads used by `parallel_for`; at least 1. Unless set, one per processor. Must not be called
/// while a `parallel_for` runs.
void set_num_threads(int threads);
int num_threads();

/// Runs `body(task, thread)` for every task in [0, tasks), begun in order; 0 <= thread <
/// num_threads() tells concurrent tasks apart. Tasks must write disjoint data, which makes results
/// independent of scheduling. The first exception thrown by a task is rethrown, after which some
/// tasks may not have run. Calls from within a task, or while another thread's call runs, are
/// executed by the calling thread alone (as thread 0).
void parallel_for(size_t tasks, FunctionRef<void(size_t task, size_t thread)> body);

}  // namespace restkv
