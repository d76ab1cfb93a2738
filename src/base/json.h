#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

/// JSON that comes from outside: every file and every saved conversation is read here.
namespace restkv {

/// Levels of lists and objects within each other. Copies, destructors and `dump` call themselves
/// for each level: deeper JSON could exhaust the stack.
inline constexpr size_t kMostJsonLevels = 64;

/// `text` as JSON; `Json` is nlohmann::json, or ordered_json, which keeps the order of fields.
/// Throws `Error` (kInput) "source:line: reason" if it is none, has more than `kMostJsonLevels`
/// levels, a zero byte, or two fields of one name in an object; the reason alone without a
/// `source`, for texts of one line whose place the caller names.
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, std::string_view source = {});

/// Throws `Error` (kInput) as `parse_json` does if a text in the JSON `text` holds a zero byte,
/// which ends it wherever C libraries read it. What a model said may hold one.
void require_no_zero_byte_in_json(std::string_view text, std::string_view source = {});

/// The JSON in a file that holds no zero byte. Throws `Error` (kInput) naming the file, the line
/// and the reason.
template <class Json = nlohmann::json>
Json read_json(const std::string& path);

/// `value` for a message: as JSON, not more than 80 bytes of it.
template <class Json>
std::string shown(const Json& value);

// Fields of an object. All throw `Error` (kInput) naming the field, what it is and what it must be.

template <class Json>
const Json& field(const Json& record, std::string_view name);
template <class Json>
const std::string& text_field(const Json& record, std::string_view name);
template <class Json>
bool bool_field(const Json& record, std::string_view name);
template <class Json>
double number_field(const Json& record, std::string_view name);
template <class Json>
int64_t integer_field(const Json& record, std::string_view name);
/// Whole numbers not below zero: counts, positions.
template <class Json>
size_t count_field(const Json& record, std::string_view name);
template <class Json>
std::vector<std::string> texts_field(const Json& record, std::string_view name);
/// An object or a list.
template <class Json>
const Json& object_field(const Json& record, std::string_view name);
template <class Json>
const Json& list_field(const Json& record, std::string_view name);

}  // namespace restkv
