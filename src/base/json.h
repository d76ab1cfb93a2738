#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Reading and writing of JSON. All JSON from outside is read here: files and saved conversations.
namespace restkv {

struct JsonField;

/// One JSON value. An object keeps the order of its fields; comparison ignores it. Functions that
/// find another type or a missing field throw `Error` (kInput).
///
/// Nothing is inline: many files include this header, and only one needs the implementation.
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
  /// From a type that `get` supports.
  template <class T>
  Json(const std::vector<T>& items);
  /// The names must be different; this is not checked.
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
  /// A non-negative integer.
  [[nodiscard]] bool is_number_unsigned() const noexcept;
  [[nodiscard]] bool is_number_float() const noexcept;
  [[nodiscard]] bool is_string() const noexcept;
  [[nodiscard]] bool is_array() const noexcept;
  [[nodiscard]] bool is_object() const noexcept;
  /// "null", "boolean", "number", "string", "array" or "object".
  [[nodiscard]] const char* type_name() const noexcept;

  /// The value as bool, a number type that can hold it (an integer for integral `T`), std::string,
  /// Json, or a std::vector of these.
  template <class T>
  [[nodiscard]] T get() const;
  [[nodiscard]] const std::string& text() const;

  /// Number of items of a list or fields of an object; 0 for null, 1 for other values.
  [[nodiscard]] size_t size() const noexcept;
  [[nodiscard]] bool empty() const noexcept;

  // Lists; null counts as an empty list.

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

  // Objects; null counts as an empty object.

  [[nodiscard]] const std::vector<JsonField>& items() const;
  /// The field, or null if there is none or this is no object.
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
    return found == nullptr ? std::move(otherwise) : found->get<T>();
  }
  [[nodiscard]] std::string value(std::string_view name, const char* otherwise) const;
  void erase(std::string_view name);
  /// A copy with the fields of all objects sorted by name.
  [[nodiscard]] Json sorted() const;

  /// The text on one line, or indented with `indent` spaces per level. Bytes that are not UTF-8
  /// become U+FFFD; NaN and infinity become null.
  [[nodiscard]] std::string dump(int indent = -1) const;
  /// The text on one line, with \u escapes for all characters but ASCII.
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

/// Limit of nested lists and objects. Copies, destructors and `dump` recurse: deeper JSON could
/// exhaust the stack.
inline constexpr size_t kMostJsonLevels = 64;

/// Parses `text`. Throws `Error` (kInput) "source:line: reason" if it is no JSON, has more than
/// `kMostJsonLevels` levels, a zero byte, or two fields of one name in an object. Without a
/// `source` the message is the reason alone, for texts of one line whose place the caller names.
Json parse_json(std::string_view text, std::string_view source = {});

/// Throws `Error` (kInput) as `parse_json` does if a string in the JSON `text` holds a zero byte,
/// which would end it in C libraries. A model's answers may hold one.
void require_no_zero_byte_in_json(std::string_view text, std::string_view source = {});

/// Reads a JSON file without zero bytes. Throws `Error` (kInput) naming the file, the line and the
/// reason.
Json read_json(const std::string& path);

/// `value` as JSON for a message, cut to 80 bytes.
std::string shown(const Json& value);

// Fields of an object. All throw `Error` (kInput) naming the field, its value and the expected
// type.

const Json& field(const Json& record, std::string_view name);
const std::string& text_field(const Json& record, std::string_view name);
bool bool_field(const Json& record, std::string_view name);
double number_field(const Json& record, std::string_view name);
int64_t integer_field(const Json& record, std::string_view name);
/// Non-negative integers: counts, positions.
size_t count_field(const Json& record, std::string_view name);
std::vector<std::string> texts_field(const Json& record, std::string_view name);
/// An object or a list.
const Json& object_field(const Json& record, std::string_view name);
const Json& list_field(const Json& record, std::string_view name);

}  // namespace restkv
