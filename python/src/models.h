#pragma once

#include <nanobind/nanobind.h>

namespace restkv::python {

/// Models, their sequences, and answers.
void bind_models(nanobind::module_& m);

}  // namespace restkv::python
