#pragma once

#include <nanobind/nanobind.h>

namespace restkv::python {

/// `select` and `OutputFactor`: selections from arrays, which are read where they are.
void bind_arrays(nanobind::module_& m);

}  // namespace restkv::python
