#pragma once

#include <cstddef>
#include <string>

/// Properties of this process and this machine.
namespace restkv {

/// Largest resident memory of this process so far.
size_t peak_resident_bytes();
/// Resident memory of this process now.
size_t resident_bytes();

/// "AMD EPYC ..."
std::string processor_name();
/// The processor's name with the number of threads, `num_threads`: "..., 2 threads".
std::string machine_description();

/// 1536 -> "1.5 KiB"
std::string human_bytes(double bytes);

}  // namespace restkv
