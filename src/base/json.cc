#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <utility>
#include <variant>

#include "base/parse_number.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using List = std::vector<Json>;
using Fields = std::vector<JsonField>;

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorCode::kInput, reason); }

[[noreturn]] void refuse_type(const Json& value, std::string_view wanted) {
  refuse(fmt::format("expected {}, not {}", wanted, shown(value)));
}

std::string described(const Json& value) {
  const bool is_short = value.is_null() || value.is_boolean() || value.is_number();
  return is_short ? shown(value) : fmt::format("of type {}", value.type_name());
}

[[noreturn]] void refuse_type(std::string_view name, std::string_view wanted, const Json& value) {
  refuse(fmt::format("field '{}' must be {}, not {}", name, wanted, described(value)));
}

const Json& typed_field(const Json& record, std::string_view name,
                        bool (Json::*is_wanted)() const noexcept, std::string_view wanted) {
  const Json& value = field(record, name);
  if (!(value.*is_wanted)()) refuse_type(name, wanted, value);
  return value;
}

std::vector<const JsonField*> by_name(const Fields& fields) {
  std::vector<const JsonField*> order;
  order.reserve(fields.size());
  for (const JsonField& field : fields) order.push_back(&field);
  std::ranges::sort(order, {}, &JsonField::name);
  return order;
}

bool begins_with_text(const Json& pair) {
  return pair.is_array() && pair.size() == 2 && pair[0].is_string();
}

template <class T>
constexpr bool kIsVector = false;
template <class T>
constexpr bool kIsVector<std::vector<T>> = true;

}  // namespace

/// Integers are int64_t if that can hold them.
struct Json::Value {
  std::variant<bool, int64_t, uint64_t, double, std::string, List, Fields> content;

  template <class T>
  explicit Value(T value) : content(std::move(value)) {}

  /// The content if it is a `T`, otherwise null.
  template <class T>
  static const T* in(const Json& json) {
    return json.value_ == nullptr ? nullptr : std::get_if<T>(&json.value_->content);
  }
  /// The same; null becomes an empty `T`.
  template <class T>
  static T* made_in(Json& json) {
    if (json.value_ == nullptr) json.value_ = std::make_unique<Value>(T());
    return std::get_if<T>(&json.value_->content);
  }
  /// Stores a number as a `T`; returns false if `T` cannot hold it.
  template <class T>
  static bool read_number(const Json& json, T& number) {
    if constexpr (std::floating_point<T>) {
      if (const auto* real = in<double>(json)) {
        number = static_cast<T>(*real);
        return true;
      }
    }
    const auto read_whole = [&](const auto* whole) {
      if (whole == nullptr) return false;
      if constexpr (std::integral<T>) {
        if (!std::in_range<T>(*whole)) return false;
      }
      number = static_cast<T>(*whole);
      return true;
    };
    return read_whole(in<int64_t>(json)) || read_whole(in<uint64_t>(json));
  }
};

Json::Json() noexcept = default;
Json::Json(std::nullptr_t) noexcept {}
Json::Json(bool value) : value_(std::make_unique<Value>(value)) {}
Json::Json(int value) : Json(static_cast<long long>(value)) {}
Json::Json(unsigned value) : Json(static_cast<long long>(value)) {}
Json::Json(long value) : Json(static_cast<long long>(value)) {}
Json::Json(unsigned long value) : Json(static_cast<unsigned long long>(value)) {}
Json::Json(long long value) : value_(std::make_unique<Value>(int64_t{value})) {}
Json::Json(unsigned long long value) {
  if (std::in_range<int64_t>(value)) {
    value_ = std::make_unique<Value>(static_cast<int64_t>(value));
  } else {
    value_ = std::make_unique<Value>(uint64_t{value});
  }
}
Json::Json(double value) : value_(std::make_unique<Value>(value)) {}
Json::Json(const char* text) : Json(std::string(text)) {}
Json::Json(std::string text) : value_(std::make_unique<Value>(std::move(text))) {}
Json::Json(std::string_view text) : Json(std::string(text)) {}
Json::Json(std::vector<Json> items) : value_(std::make_unique<Value>(std::move(items))) {}
Json::Json(std::vector<JsonField> fields) : value_(std::make_unique<Value>(std::move(fields))) {}

template <class T>
Json::Json(const std::vector<T>& items) : Json(List(items.begin(), items.end())) {}

Json::Json(std::initializer_list<Json> items)
    : Json(std::ranges::all_of(items, begins_with_text) ? object(items) : array(items)) {}

Json Json::array(std::initializer_list<Json> items) { return List(items); }

Json Json::object(std::initializer_list<Json> fields) {
  Json object(Fields{});
  for (const Json& field : fields) object[field.at(0).text()] = field.at(1);
  return object;
}

Json::Json(const Json& other)
    : value_(other.value_ == nullptr ? nullptr : std::make_unique<Value>(*other.value_)) {}
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(Json other) noexcept {
  value_ = std::move(other.value_);
  return *this;
}
Json::~Json() = default;

bool Json::is_null() const noexcept { return value_ == nullptr; }
bool Json::is_boolean() const noexcept { return Value::in<bool>(*this) != nullptr; }
bool Json::is_number() const noexcept { return is_number_integer() || is_number_float(); }
bool Json::is_number_integer() const noexcept {
  return Value::in<int64_t>(*this) != nullptr || Value::in<uint64_t>(*this) != nullptr;
}
bool Json::is_number_unsigned() const noexcept {
  const auto* whole = Value::in<int64_t>(*this);
  return whole != nullptr ? *whole >= 0 : Value::in<uint64_t>(*this) != nullptr;
}
bool Json::is_number_float() const noexcept { return Value::in<double>(*this) != nullptr; }
bool Json::is_string() const noexcept { return Value::in<std::string>(*this) != nullptr; }
bool Json::is_array() const noexcept { return Value::in<List>(*this) != nullptr; }
bool Json::is_object() const noexcept { return Value::in<Fields>(*this) != nullptr; }

const char* Json::type_name() const noexcept {
  if (is_null()) return "null";
  if (is_boolean()) return "boolean";
  if (is_number()) return "number";
  if (is_string()) return "string";
  return is_array() ? "array" : "object";
}

template <class T>
T Json::get() const {
  if constexpr (std::same_as<T, Json>) {
    return *this;
  } else if constexpr (std::same_as<T, std::string>) {
    return text();
  } else if constexpr (std::same_as<T, bool>) {
    if (!is_boolean()) refuse_type(*this, "true or false");
    return *Value::in<bool>(*this);
  } else if constexpr (kIsVector<T>) {
    T list;
    list.reserve(size());
    for (const Json& item : *this) list.push_back(item.get<typename T::value_type>());
    return list;
  } else {
    T number{};
    if (!Value::read_number(*this, number)) {
      refuse_type(*this, std::integral<T> ? number_wanted<T>() : "a number");
    }
    return number;
  }
}

const std::string& Json::text() const {
  const auto* text = Value::in<std::string>(*this);
  if (text == nullptr) refuse_type(*this, "a text");
  return *text;
}

size_t Json::size() const noexcept {
  if (const auto* list = Value::in<List>(*this)) return list->size();
  if (const auto* fields = Value::in<Fields>(*this)) return fields->size();
  return is_null() ? 0 : 1;
}

bool Json::empty() const noexcept { return size() == 0; }

const Json* Json::begin() const {
  if (is_null()) return nullptr;
  const auto* list = Value::in<List>(*this);
  if (list == nullptr) refuse_type(*this, "a list");
  return list->data();
}

const Json* Json::end() const { return begin() + size(); }
Json* Json::begin() { return const_cast<Json*>(std::as_const(*this).begin()); }
Json* Json::end() { return begin() + size(); }

const Json& Json::at(size_t index) const {
  if (!is_array() || index >= size()) {
    refuse_type(*this, fmt::format("a list with an item {}", index));
  }
  return begin()[index];
}

Json& Json::at(size_t index) { return const_cast<Json&>(std::as_const(*this).at(index)); }

void Json::push_back(Json item) {
  auto* list = Value::made_in<List>(*this);
  if (list == nullptr) refuse_type(*this, "a list");
  list->push_back(std::move(item));
}

const std::vector<JsonField>& Json::items() const {
  static const Fields kNone;
  if (is_null()) return kNone;
  const auto* fields = Value::in<Fields>(*this);
  if (fields == nullptr) refuse_type(*this, "an object");
  return *fields;
}

const Json* Json::find(std::string_view name) const noexcept {
  const auto* fields = Value::in<Fields>(*this);
  if (fields == nullptr) return nullptr;
  const auto found = std::ranges::find(*fields, name, &JsonField::name);
  return found == fields->end() ? nullptr : &found->value;
}

bool Json::contains(std::string_view name) const noexcept { return find(name) != nullptr; }
const Json& Json::at(std::string_view name) const { return field(*this, name); }
Json& Json::at(std::string_view name) { return const_cast<Json&>(field(*this, name)); }

Json& Json::operator[](std::string_view name) {
  auto* fields = Value::made_in<Fields>(*this);
  if (fields == nullptr) refuse_type(*this, "an object");
  const auto found = std::ranges::find(*fields, name, &JsonField::name);
  if (found != fields->end()) return found->value;
  fields->push_back({.name = std::string(name), .value = {}});
  return fields->back().value;
}

std::string Json::value(std::string_view name, const char* otherwise) const {
  return value(name, std::string(otherwise));
}

void Json::erase(std::string_view name) {
  auto* fields = Value::made_in<Fields>(*this);
  if (fields == nullptr) refuse_type(*this, "an object");
  std::erase_if(*fields, [&](const JsonField& field) { return field.name == name; });
}

Json Json::sorted() const {
  if (is_array()) {
    List list;
    for (const Json& item : *this) list.push_back(item.sorted());
    return list;
  }
  if (!is_object()) return *this;
  Fields fields;
  for (const JsonField* field : by_name(items())) {
    fields.push_back({field->name, field->value.sorted()});
  }
  return Json(std::move(fields));
}

bool Json::equals(const Json& other) const {
  if (is_number() && other.is_number() && (is_number_float() || other.is_number_float())) {
    return get<double>() == other.get<double>();
  }
  if (is_null() || other.is_null()) return is_null() == other.is_null();
  if (!is_object() || !other.is_object()) return value_->content == other.value_->content;
  if (size() != other.size()) return false;
  return std::ranges::equal(by_name(items()), by_name(other.items()),
                            [](const JsonField* a, const JsonField* b) {
                              return a->name == b->name && a->value == b->value;
                            });
}

const Json& field(const Json& record, std::string_view name) {
  if (!record.is_object()) {
    refuse(fmt::format("expected an object with field '{}', not {}", name, shown(record)));
  }
  const Json* found = record.find(name);
  if (found == nullptr) refuse(fmt::format("field '{}' is missing", name));
  return *found;
}

const std::string& text_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_string, "a text").text();
}

bool bool_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_boolean, "true or false").get<bool>();
}

double number_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_number, "a number").get<double>();
}

int64_t integer_field(const Json& record, std::string_view name) {
  const Json& value = typed_field(record, name, &Json::is_number_integer, "a whole number");
  if (value.is_number_unsigned() && !std::in_range<int64_t>(value.get<uint64_t>())) {
    refuse_type(name, "a whole number below 2^63", value);
  }
  return value.get<int64_t>();
}

size_t count_field(const Json& record, std::string_view name) {
  const int64_t value = integer_field(record, name);
  if (value < 0) refuse_type(name, "0 or more", field(record, name));
  return static_cast<size_t>(value);
}

std::vector<std::string> texts_field(const Json& record, std::string_view name) {
  const Json& value = list_field(record, name);
  std::vector<std::string> texts;
  for (const Json& item : value) {
    if (!item.is_string()) {
      refuse(fmt::format("field '{}' must be a list of texts; its item {} is {}", name,
                         texts.size() + 1, described(item)));
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

const Json& object_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_object, "an object");
}

const Json& list_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_array, "a list");
}

#define RESTKV_JSON_TYPE(T)        \
  template T Json::get<T>() const; \
  template std::vector<T> Json::get<std::vector<T>>() const;
RESTKV_JSON_TYPE(bool)
RESTKV_JSON_TYPE(int)
RESTKV_JSON_TYPE(unsigned)
RESTKV_JSON_TYPE(int64_t)
RESTKV_JSON_TYPE(uint64_t)
RESTKV_JSON_TYPE(float)
RESTKV_JSON_TYPE(double)
RESTKV_JSON_TYPE(std::string)
RESTKV_JSON_TYPE(Json)
#undef RESTKV_JSON_TYPE

template Json::Json(const std::vector<int>&);
template Json::Json(const std::vector<int64_t>&);
template Json::Json(const std::vector<uint64_t>&);
template Json::Json(const std::vector<double>&);
template Json::Json(const std::vector<std::string>&);
template Json::Json(const std::vector<std::vector<int>>&);
template Json::Json(const std::vector<std::vector<std::vector<int>>>&);

}  // namespace restkv
