#pragma once

#include <cstddef>
#include <string>

/// What this process and this machine are.
namespace restkv {

/// Largest resident memory of this process so far.
size_t peak_resident_bytes();

/// "AMD EPYC ..."
std::string processor_name();
/// The same with "..., 2 threads": those of `num_threads`.
std::string machine_description();

/// 1536 -> "1.5 KiB"
std::string human_bytes(double bytes);

}  // namespace restkv
