#include "arrays.h"

#include <fmt/format.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "doors/array_layer.h"
#include "doors/sequence.h"
#include "doors/settings.h"
#include "errors.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/threads.h"

namespace restkv::python {
namespace {

using Array = nb::ndarray<nb::ro>;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

std::string shape_of(const Array& x) {
  std::string text;
  for (size_t i = 0; i < x.ndim(); ++i) text += fmt::format("{}{}", i > 0 ? ", " : "", x.shape(i));
  return "[" + text + "]";
}

/// The array behind an object with DLPack or a buffer, as it lies in memory.
Array array_of(const nb::object& x, const char* name, size_t dimensions, const char* shape) {
  const auto type = [&] { return nb::cast<std::string>(nb::str(x.type().attr("__name__"))); };
  Array array;
  if (!nb::try_cast(x, array, false)) {
    PyErr_Clear();
    throw nb::type_error(
        fmt::format("{} is a {}; expected a float32 array of NumPy, of PyTorch without gradient, "
                    "or of anything else with DLPack",
                    name, type())
            .c_str());
  }
  if (array.device_type() != nb::device::cpu::value) {
    refuse(fmt::format("{} is not in the memory of the processor; give {}.cpu()", name, name));
  }
  if (array.dtype() != nb::dtype<float>()) {
    refuse(
        fmt::format("{} has another type than float32; give {}.float() (PyTorch) or "
                    "{}.astype(\"float32\") (NumPy)",
                    name, name, name));
  }
  if (array.ndim() != dimensions) {
    refuse(fmt::format("{} has the shape {}; expected {}", name, shape_of(array), shape));
  }
  for (size_t i = 0; i < dimensions; ++i) {
    const bool last = i + 1 == dimensions;
    if (array.size() == 0 || array.shape(i) == 1) continue;  // whose stride has no meaning
    if (array.stride(i) < 0 || (last && array.stride(i) != 1)) {
      refuse(
          fmt::format("the elements of the rows of {} are not neighbours in memory; give a "
                      "contiguous array",
                      name));
    }
  }
  return array;
}

Heads<const float> heads_of(const Array& x) {
  return {static_cast<const float*>(x.data()),
          x.shape(0),
          x.shape(1),
          x.shape(2),
          static_cast<size_t>(x.stride(0)),
          static_cast<size_t>(x.stride(1))};
}

Matrix<const float> matrix_of(const Array& x) {
  return {static_cast<const float*>(x.data()), x.shape(0), x.shape(1),
          static_cast<size_t>(x.stride(0))};
}

/// Positions as an array of NumPy that owns them.
nb::object positions_of(std::vector<int32_t> positions) {
  auto* kept = new std::vector<int32_t>(std::move(positions));
  const nb::capsule owner(kept,
                          [](void* p) noexcept { delete static_cast<std::vector<int32_t>*>(p); });
  return nb::ndarray<nb::numpy, int32_t, nb::ndim<1>>(kept->data(), {kept->size()}, owner).cast();
}

struct Factor {
  OutputFactor factor;
};

Factor make_factor(const nb::object& wo, size_t query_heads) {
  const Array array = array_of(wo, "wo", 2, "[width, query_heads * value_dim]");
  if (query_heads == 0 || array.shape(1) % query_heads != 0) {
    refuse(fmt::format("wo has the shape {}, whose columns {} query heads cannot share",
                       shape_of(array), query_heads));
  }
  const nb::gil_scoped_release others_go_on;
  const std::shared_ptr<ThreadPool> threads = doors::shared_threads();
  const UseThreads use(*threads);
  return {OutputFactor(matrix_of(array), query_heads, array.shape(1) / query_heads)};
}

nb::list select(const nb::object& q, const nb::object& k, const nb::object& v, const nb::object& wo,
                const nb::object& unrotated_keys, const nb::object& inputs,
                const nb::object& frequencies, double magnitude, bool neighbours, float scale,
                float softcap, size_t layer, size_t layers, const std::string& method,
                const std::string& budget) {
  // All that is read is kept alive until the end by these.
  std::vector<Array> held;
  const auto read = [&](const nb::object& x, const char* name, size_t dimensions,
                        const char* shape) -> const Array& {
    return held.emplace_back(array_of(x, name, dimensions, shape));
  };
  held.reserve(7);
  doors::ArrayLayer arrays;
  if (!q.is_none()) arrays.queries = heads_of(read(q, "q", 3, "[query_heads, rows, d]"));
  arrays.keys = heads_of(read(k, "k", 3, "[kv_heads, n, d]"));
  arrays.values = heads_of(read(v, "v", 3, "[kv_heads, n, value_dim]"));
  if (!unrotated_keys.is_none()) {
    arrays.unrotated_keys = heads_of(read(unrotated_keys, "unrotated_keys", 3, "[kv_heads, n, d]"));
  }
  if (!inputs.is_none()) arrays.inputs = matrix_of(read(inputs, "inputs", 2, "[n, width]"));
  if (nb::isinstance<Factor>(wo)) {
    arrays.factor = &nb::cast<const Factor&>(wo).factor;
  } else if (!wo.is_none()) {
    arrays.wo = matrix_of(read(wo, "wo", 2, "[width, query_heads * value_dim]"));
  }
  if (!frequencies.is_none()) {
    const Array& array = read(frequencies, "frequencies", 1, "[pairs]");
    arrays.rotation.frequencies = {static_cast<const float*>(array.data()), array.shape(0)};
  }
  arrays.rotation.magnitude = magnitude;
  arrays.rotation.halves = !neighbours;
  arrays.scale = scale;
  arrays.softcap = softcap;
  arrays.layer = layer;
  arrays.layers = layers;

  const doors::GivenMethod how = doors::parse_method(method, budget);
  warn(how.notices);
  const CompressionOptions options = doors::for_prompt(how, arrays.keys.rows);
  Selection selection;
  {
    const nb::gil_scoped_release others_go_on;
    const std::shared_ptr<ThreadPool> threads = doors::shared_threads();
    const UseThreads use(*threads);
    selection = doors::select_from_arrays(arrays, options);
  }
  nb::list kept;
  for (std::vector<int32_t>& head : selection.keep) kept.append(positions_of(std::move(head)));
  return kept;
}

/// What a method reads of n tokens beside keys and values.
nb::dict needs(const std::string& method, const std::string& budget, size_t n) {
  const doors::GivenMethod how = doors::parse_method(method, budget);
  const CompressionOptions options = doors::for_prompt(how, n);
  const doors::ArrayNeeds reads = doors::array_needs(options, n);
  nb::dict result;
  result["queries"] = reads.queries;
  result["wo"] = reads.wo;
  result["factor"] = reads.factor;
  result["rotation"] = reads.rotation;
  result["inputs"] = reads.inputs;
  result["budget"] = options.budget;
  return result;
}

}  // namespace

void bind_arrays(nb::module_& m) {
  nb::class_<Factor>(m, "OutputFactor",
                     "What methods need of W_O [width, query_heads * value_dim], computed once for "
                     "a layer.")
      .def(
          "__init__",
          [](Factor* self, const nb::object& wo, size_t query_heads) {
            new (self) Factor(make_factor(wo, query_heads));
          },
          nb::arg("wo"), nb::arg("query_heads"))
      .def_prop_ro("query_heads", [](const Factor& f) { return f.factor.heads(); })
      .def_prop_ro("value_dim", [](const Factor& f) { return f.factor.head_dim(); });
  m.def("needs", &needs, nb::arg("method"), nb::arg("budget"), nb::arg("n"));
  m.def("select", &select, nb::arg("q").none(), nb::arg("k").none(), nb::arg("v").none(),
        nb::arg("wo").none(), nb::arg("unrotated_keys").none(), nb::arg("inputs").none(),
        nb::arg("frequencies").none(), nb::arg("magnitude"), nb::arg("neighbours"),
        nb::arg("scale"), nb::arg("softcap"), nb::arg("layer"), nb::arg("layers"),
        nb::arg("method"), nb::arg("budget"));
}

}  // namespace restkv::python
