#include "methods.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "compress/kv_scores.h"
#include "restkv/compress.h"
#include "restkv/views.h"

namespace nb = nanobind;

namespace restkv::python {
namespace {

size_t window_of(const CompressionOptions& options) { return static_cast<size_t>(options.window); }

void check(const CompressionOptions& options) {
  check_protected(options, "window", options.window);
}

/// A copy as an array of NumPy, which functions may keep.
nb::object array_of(Heads<const float> rows) {
  auto* copy = new std::vector<float>(rows.heads * rows.rows * rows.dim);
  const nb::capsule owner(copy,
                          [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  float* to = copy->data();
  for (size_t h = 0; h < rows.heads; ++h) {
    for (size_t r = 0; r < rows.rows; ++r) to = std::copy_n(rows.row(h, r), rows.dim, to);
  }
  return nb::ndarray<nb::numpy, float, nb::ndim<3>>(copy->data(), {rows.heads, rows.rows, rows.dim},
                                                    owner)
      .cast();
}

/// What the function of the method's name says, which restkv/_methods.py has looked at. What the
/// function raises goes through the library to the caller.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* /*trace*/) {
  const size_t n = layer.keys.rows;
  const size_t window = std::min(n, window_of(options));
  LayerScores scores(layer.keys.heads, n - window);
  const std::string name(find_method(options.method).name);
  const nb::gil_scoped_acquire lock;
  const nb::object queries =
      window == 0 ? nb::none()
                  : array_of(layer.queries.slice_rows(layer.queries.rows - window, window));
  const nb::object given =
      nb::module_::import_("restkv._methods")
          .attr("scores_of")(name, queries, array_of(layer.keys), array_of(layer.values));
  const auto all = nb::cast<nb::ndarray<const float, nb::shape<-1, -1>, nb::c_contig>>(given);
  for (size_t h = 0; h < scores.heads; ++h) {
    std::copy_n(all.data() + h * n, scores.candidates, scores.rows().row(h));
  }
  return scores;
}

void register_function(const std::string& name, int window) {
  static std::deque<std::string> names;  // which the table refers to
  Method method;
  method.name = names.emplace_back(name);
  method.summary = "scores of a function in Python";
  method.paper = "none";
  method.options = {"window"};
  method.defaults.window = window;
  method.defaults.ada_normalize = false;  // these scores are no shares of anything
  method.score_kind = ScoreKind::kSigned;
  method.check = check;
  method.observed_queries = window_of;
  method.score = score;
  register_method(method);
}

}  // namespace

void bind_methods(nb::module_& m) {
  m.def("register_method", &register_function, nb::arg("name"), nb::arg("window"));
}

}  // namespace restkv::python
