#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// JSON that comes from outside, and JSON that is written: every file and every saved conversation
/// is read here.
namespace restkv {

struct JsonField;

/// One value of JSON. An object keeps the order of its fields; two objects are equal whatever the
/// order. All functions that find another type or no such field throw `Error` (kInput) saying so.
///
/// Nothing is inline: a hundred files use this class, and only one has to know how it works.
class Json {
 public:
  Json() noexcept;  ///< null
  Json(std::nullptr_t) noexcept;
  Json(bool value);
  Json(int value);
  Json(unsigned value);
  Json(long value);
  Json(unsigned long value);
  Json(long long value);
  Json(unsigned long long value);
  Json(double value);
  Json(const char* text);
  Json(std::string text);
  Json(std::string_view text);
  Json(const void*) = delete;  // would become `true`
  Json(std::vector<Json> items);
  /// Of a type that `get` knows.
  template <class T>
  Json(const std::vector<T>& items);
  /// All names differ: nobody looks for one that stands twice.
  explicit Json(std::vector<JsonField> fields);
  /// An object if all items are lists of two that begin with a text, otherwise a list.
  Json(std::initializer_list<Json> items);
  static Json array(std::initializer_list<Json> items = {});
  static Json object(std::initializer_list<Json> fields = {});

  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(Json other) noexcept;
  ~Json();

  [[nodiscard]] bool is_null() const noexcept;
  [[nodiscard]] bool is_boolean() const noexcept;
  [[nodiscard]] bool is_number() const noexcept;
  [[nodiscard]] bool is_number_integer() const noexcept;
  /// A whole number not below zero.
  [[nodiscard]] bool is_number_unsigned() const noexcept;
  [[nodiscard]] bool is_number_float() const noexcept;
  [[nodiscard]] bool is_string() const noexcept;
  [[nodiscard]] bool is_array() const noexcept;
  [[nodiscard]] bool is_object() const noexcept;
  /// "null", "boolean", "number", "string", "array" or "object".
  [[nodiscard]] const char* type_name() const noexcept;

  /// As bool, a number that holds the value (a whole one for whole `T`), std::string, Json, or a
  /// std::vector of them.
  template <class T>
  [[nodiscard]] T get() const;
  [[nodiscard]] const std::string& text() const;

  /// Of a list or an object; null has none, all else is one.
  [[nodiscard]] size_t size() const noexcept;
  [[nodiscard]] bool empty() const noexcept;

  // Lists; null is an empty one.

  [[nodiscard]] const Json* begin() const;
  [[nodiscard]] const Json* end() const;
  [[nodiscard]] Json* begin();
  [[nodiscard]] Json* end();
  [[nodiscard]] const Json& at(size_t index) const;
  [[nodiscard]] Json& at(size_t index);
  const Json& operator[](size_t index) const { return at(index); }
  Json& operator[](size_t index) { return at(index); }
  [[nodiscard]] const Json& front() const { return at(0); }
  void push_back(Json item);

  // Objects; null is an empty one.

  [[nodiscard]] const std::vector<JsonField>& items() const;
  /// Null if there is none, or if this is no object.
  [[nodiscard]] const Json* find(std::string_view name) const noexcept;
  [[nodiscard]] bool contains(std::string_view name) const noexcept;
  [[nodiscard]] const Json& at(std::string_view name) const;
  [[nodiscard]] Json& at(std::string_view name);
  const Json& operator[](std::string_view name) const { return at(name); }
  /// Adds the field if there is none.
  Json& operator[](std::string_view name);
  /// The field as `T`, or `otherwise` if there is none.
  template <class T>
  [[nodiscard]] T value(std::string_view name, T otherwise) const {
    const Json* found = find(name);
    return found == nullptr ? otherwise : found->get<T>();
  }
  [[nodiscard]] std::string value(std::string_view name, const char* otherwise) const;
  void erase(std::string_view name);
  /// The same with the fields of all objects in the order of their names.
  [[nodiscard]] Json sorted() const;

  /// On one line, or on several with `indent` spaces a level. Bytes that are no UTF-8 become
  /// U+FFFD, numbers that JSON does not have become null.
  [[nodiscard]] std::string dump(int indent = -1) const;
  /// On one line, all but ASCII as \u escapes.
  [[nodiscard]] std::string dump_ascii() const;

  /// Numbers of all types compare by value.
  friend bool operator==(const Json& a, const Json& b) { return a.equals(b); }
  /// As `dump`.
  friend std::ostream& operator<<(std::ostream& out, const Json& json) { return json.print(out); }

 private:
  struct Value;

  [[nodiscard]] bool equals(const Json& other) const;
  std::ostream& print(std::ostream& out) const;

  std::unique_ptr<Value> value_;  ///< Null for null.
};

struct JsonField {
  std::string name;
  Json value;
  bool operator==(const JsonField&) const = default;
};

/// Levels of lists and objects within each other. Copies, destructors and `dump` call themselves
/// for each level: deeper JSON could exhaust the stack.
inline constexpr size_t kMostJsonLevels = 64;

/// `text` as JSON. Throws `Error` (kInput) "source:line: reason" if it is none, has more than
/// `kMostJsonLevels` levels, a zero byte, or two fields of one name in an object; the reason alone
/// without a `source`, for texts of one line whose place the caller names.
Json parse_json(std::string_view text, std::string_view source = {});

/// Throws `Error` (kInput) as `parse_json` does if a text in the JSON `text` holds a zero byte,
/// which ends it wherever C libraries read it. What a model said may hold one.
void require_no_zero_byte_in_json(std::string_view text, std::string_view source = {});

/// The JSON in a file that holds no zero byte. Throws `Error` (kInput) naming the file, the line
/// and the reason.
Json read_json(const std::string& path);

/// `value` for a message: as JSON, not more than 80 bytes of it.
std::string shown(const Json& value);

// Fields of an object. All throw `Error` (kInput) naming the field, what it is and what it must be.

const Json& field(const Json& record, std::string_view name);
const std::string& text_field(const Json& record, std::string_view name);
bool bool_field(const Json& record, std::string_view name);
double number_field(const Json& record, std::string_view name);
int64_t integer_field(const Json& record, std::string_view name);
/// Whole numbers not below zero: counts, positions.
size_t count_field(const Json& record, std::string_view name);
std::vector<std::string> texts_field(const Json& record, std::string_view name);
/// An object or a list.
const Json& object_field(const Json& record, std::string_view name);
const Json& list_field(const Json& record, std::string_view name);

}  // namespace restkv
