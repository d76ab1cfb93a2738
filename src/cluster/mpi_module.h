#pragma once

#include "model/communicator.h"

namespace restkv {

/// What the module with MPI offers to the program that loads it, under the name `kMpiModuleSymbol`.
struct MpiModule {
  /// Starts MPI. To be called once.
  Communicator& (*join)();
  /// Ends MPI: with 0 together with all others, otherwise all of them, at once.
  void (*leave)(int exit_code);
};

inline constexpr const char* kMpiModuleSymbol = "restkv_mpi_module";

}  // namespace restkv
