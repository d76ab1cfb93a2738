#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>
#include <vector>

#include "restkv/engine.h"

namespace restkv::python {

namespace nb = nanobind;

/// Errors of the library become the exceptions of restkv/_errors.py.
void translate_errors();

/// A sentence for each option without effect: warnings.warn. Throws what that raises.
void warn(const std::vector<std::string>& notices);

/// Reads a prompt without the lock of the interpreter. Ctrl-C ends it, and so does what `progress`
/// (a callable, or None) raises; both are raised here.
void reading(const nb::object& progress,
             const std::function<void(const ProgressCallback& progress)>& read);

/// Raises KeyboardInterrupt if Ctrl-C was pressed.
void check_signals();

}  // namespace restkv::python
