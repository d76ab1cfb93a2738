// The module restkv._restkv: what the package is written with. Its functions are documented where
// the package calls them, in python/restkv/.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "arrays.h"
#include "doors/sequence.h"
#include "errors.h"
#include "methods.h"
#include "models.h"
#include "restkv/compress.h"

NB_MODULE(_restkv, m) {
  restkv::python::translate_errors();
  restkv::python::bind_arrays(m);
  restkv::python::bind_methods(m);
  restkv::python::bind_models(m);
  m.attr("version") = RESTKV_PROJECT_VERSION;
  m.def("methods", [] {
    std::vector<std::string> names;
    for (const restkv::Method& method : restkv::methods()) names.emplace_back(method.name);
    return names;
  });
  m.def("set_threads", &restkv::doors::set_shared_threads, nanobind::arg("threads"));
  m.def("threads", [] { return restkv::doors::shared_threads()->threads(); });
}
