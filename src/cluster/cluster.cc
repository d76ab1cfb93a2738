#include "cluster/cluster.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "cluster/mpi_module.h"

namespace restkv {
namespace {

constexpr const char* kPackages = "install libopenmpi-dev and openmpi-bin";

/// Whether somebody started this process as one of several: OpenMPI's mpirun, or a program that
/// speaks PMIx or PMI, such as srun and MPICH's mpirun.
bool started_with_others() {
  if (const char* size = std::getenv("OMPI_COMM_WORLD_SIZE")) return std::string_view(size) != "1";
  return std::getenv("PMIX_RANK") != nullptr || std::getenv("PMI_RANK") != nullptr;
}

const MpiModule* g_module = nullptr;  // loaded by `cluster`

#ifdef RESTKV_MPI_MODULE
Communicator& join() {
  // OpenMPI loads modules of its own, which look for its symbols among those of the program.
  void* const module = ::dlopen(RESTKV_MPI_MODULE, RTLD_NOW | RTLD_GLOBAL);
  const void* const found = module != nullptr ? ::dlsym(module, kMpiModuleSymbol) : nullptr;
  if (found == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("this process was started as one of several, but MPI is not there "
                            "({}); {}, or start it without mpirun",
                            ::dlerror(), kPackages));
  }
  g_module = static_cast<const MpiModule*>(found);
  return g_module->join();
}
#else
Communicator& join() {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("this process was started as one of several, but this restkv was built "
                          "without MPI; {} and build it again, or start it without mpirun",
                          kPackages));
}
#endif

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "an unknown host";
}

std::string packed(std::initializer_list<std::string_view> texts) {
  std::string bytes;
  ByteWriter out([&](std::string_view part) { bytes.append(part); });
  for (const std::string_view text : texts) out.text(text);
  return bytes;
}

}  // namespace

Communicator& cluster() {
  static Communicator& all = started_with_others() ? join() : single_process();
  return all;
}

int leave_cluster(int exit_code) {
  if (g_module != nullptr) g_module->leave(exit_code);
  return exit_code;
}

std::string name_of_this_process(const Communicator& all) {
  return fmt::format("rank {} on {}", all.rank(), host_name());
}

void meet(Communicator& all, std::string_view identity, const std::optional<Error>& failure) {
  if (all.size() == 1) {
    if (failure) throw *failure;
    return;
  }
  const std::string why = failure ? failure->what() : "";
  const ErrorCode code = failure ? failure->code() : ErrorCode::kInput;
  if (all.rank() > 0) {
    all.send(0, packed({name_of_this_process(all), identity, why}));
    if (all.wait().bytes.empty()) return;
    throw Error(code, "rank 0 says why the processes cannot work together");
  }
  std::vector<std::string> refusals;
  if (failure) refusals.push_back(why);
  for (size_t answers = 1; answers < all.size(); ++answers) {
    const std::string bytes = all.wait().bytes;
    ByteReader in("a process's first message", bytes);
    const std::string name = in.text();
    const std::string its_identity = in.text();
    const std::string its_failure = in.text();
    if (!its_failure.empty()) {
      // All of them refuse what rank 0 refuses for the same reason.
      if (its_failure != why) refusals.push_back(fmt::format("{}: {}", name, its_failure));
    } else if (!failure && its_identity != identity) {
      refusals.push_back(
          fmt::format("{} has something else than rank 0: {} instead of {}; give "
                      "all of them the same version of restkv and the same model",
                      name, its_identity, identity));
    }
  }
  for (size_t rank = 1; rank < all.size(); ++rank) all.send(rank, refusals.empty() ? "" : "no");
  if (refusals.empty()) return;
  throw Error(code, fmt::format("{}{}", refusals.front(),
                                refusals.size() > 1
                                    ? fmt::format(" (and {} more processes)", refusals.size() - 1)
                                    : ""));
}

}  // namespace restkv
