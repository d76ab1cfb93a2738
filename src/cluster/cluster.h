#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "model/communicator.h"
#include "restkv/error.h"

/// The processes that `mpirun` or `srun` started together. The program itself does not need MPI: a
/// module that does is loaded when it was started as one of several.
namespace restkv {

/// The processes of this start; `single_process()` for one that was started alone. Throws `Error`
/// (kUnsupported) for one of several if MPI is not there, naming the package.
Communicator& cluster();

/// To be called before a process of `cluster()` ends with this exit code. All end well together; a
/// process that failed ends the others. Returns the exit code.
int leave_cluster(int exit_code);

/// "rank 2 on node7"
std::string name_of_this_process(const Communicator& all);

/// Lets all processes learn whether all are ready and alike: `identity` is what must be the same
/// everywhere (version, model), `failure` why this process is not ready. Throws `Error` otherwise:
/// on rank 0 it names each rank and host that is not ready or differs from rank 0.
void meet(Communicator& all, std::string_view identity, const std::optional<Error>& failure);

}  // namespace restkv
