#pragma once

#include <nanobind/nanobind.h>

namespace restkv::python {

/// `register_method`: functions of Python as compression methods.
void bind_methods(nanobind::module_& m);

}  // namespace restkv::python
