#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

namespace restkv {

/// A view of a row-major matrix `rows` x `cols`; row r starts at `data + r * stride`.
template <class T>
struct Matrix {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;

  Matrix() = default;
  Matrix(T* d, size_t r, size_t c) : data(d), rows(r), cols(c), stride(c) {}
  Matrix(T* d, size_t r, size_t c, size_t s) : data(d), rows(r), cols(c), stride(s) {}

  [[nodiscard]] T* row(size_t r) const { return data + r * stride; }
  [[nodiscard]] std::span<T> row_span(size_t r) const { return {row(r), cols}; }
  [[nodiscard]] Matrix slice(size_t begin, size_t count) const {
    return {row(begin), count, cols, stride};
  }
  operator Matrix<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }
};

/// A view of one row-major matrix per attention head: [heads, rows, dim]. Row r of head h starts at
/// `data + h * head_stride + r * row_stride`.
template <class T>
struct Heads {
  T* data = nullptr;
  size_t heads = 0;
  size_t rows = 0;
  size_t dim = 0;
  size_t head_stride = 0;
  size_t row_stride = 0;

  Heads() = default;
  /// Contiguous [heads, rows, dim].
  Heads(T* d, size_t h, size_t r, size_t c)
      : data(d), heads(h), rows(r), dim(c), head_stride(r * c), row_stride(c) {}
  Heads(T* d, size_t h, size_t r, size_t c, size_t hs, size_t rs)
      : data(d), heads(h), rows(r), dim(c), head_stride(hs), row_stride(rs) {}

  [[nodiscard]] T* row(size_t h, size_t r) const { return data + h * head_stride + r * row_stride; }
  [[nodiscard]] Matrix<T> head(size_t h) const { return {row(h, 0), rows, dim, row_stride}; }
  /// Heads [begin, begin + count).
  [[nodiscard]] Heads slice_heads(size_t begin, size_t count) const {
    return {row(begin, 0), count, rows, dim, head_stride, row_stride};
  }
  /// Rows [begin, begin + count) of every head.
  [[nodiscard]] Heads slice_rows(size_t begin, size_t count) const {
    return {data + begin * row_stride, heads, count, dim, head_stride, row_stride};
  }
  operator Heads<const T>() const requires(!std::is_const_v<T>) {
    return {data, heads, rows, dim, head_stride, row_stride};
  }
};

}  // namespace restkv
