#include "errors.h"

#include <exception>

#include "restkv/error.h"

namespace restkv::python {

void translate_errors() {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Error& e) {
      const nb::object made = nb::module_::import_("restkv._errors")
                                  .attr("of_code")(static_cast<int>(e.code()), e.what());
      PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
    }
  });
}

void warn(const std::vector<std::string>& notices) {
  for (const std::string& notice : notices) {
    if (PyErr_WarnEx(PyExc_UserWarning, notice.c_str(), 2) != 0) throw nb::python_error();
  }
}

void reading(const nb::object& progress,
             const std::function<void(const ProgressCallback& progress)>& read) {
  bool raised = false;  // what, the interpreter keeps for this thread
  try {
    const nb::gil_scoped_release others_go_on;
    read([&](double done) {
      const nb::gil_scoped_acquire lock;
      if (PyErr_CheckSignals() != 0) {
        raised = true;
        return false;
      }
      if (progress.is_none()) return true;
      try {
        progress(done);
      } catch (nb::python_error& e) {
        e.restore();
        raised = true;
        return false;
      }
      return true;
    });
  } catch (const Error&) {
    if (!raised) throw;
  }
  if (raised) throw nb::python_error();
}

void check_signals() {
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

}  // namespace restkv::python
