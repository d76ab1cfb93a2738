#include "fuzz/files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/file.h"
#include "make_model/presets.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv::fuzz {
namespace {

constexpr std::array kTypes{"Q8_0", "F16", "F32", "Q4_0", "Q4_1", "Q5_K", "Q6_K", "Q4_K"};
constexpr std::string_view kTiny = "tiny-";
constexpr std::string_view kContext = "context";

std::vector<std::string> parts_of(std::string_view name) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= name.size();) {
    // The point of "tiny-llama-3.1" and its like belongs to the name.
    size_t end = std::min(name.find('.', begin), name.size());
    if (parts.empty() && end + 1 < name.size() && std::isdigit(name[end + 1]) != 0) {
      end = std::min(name.find('.', end + 1), name.size());
    }
    parts.emplace_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

[[noreturn]] void no_such_model(const std::string& name) {
  throw Error(ErrorCode::kInvalidArgument, "there is no model " + name);
}

RandomModel describe(const std::string& name) {
  std::vector<std::string> parts = parts_of(name);
  if (parts.size() < 3 || parts.back() != "gguf" || !parts[0].starts_with(kTiny))
    no_such_model(name);
  parts.pop_back();
  RandomModel model = find_preset(parts[0]);
  model.tokenizer = testing::test_model_path();
  const std::vector<ggml_type> types = weight_types();
  const auto type = std::ranges::find_if(types, [&](ggml_type t) {
    std::string known = ggml_type_name(t);
    std::ranges::transform(known, known.begin(), [](unsigned char c) { return std::toupper(c); });
    return known == parts.back();
  });
  if (type == types.end()) no_such_model(name);
  model.type = *type;
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    if (parts[i].starts_with(kContext)) {
      model.context = std::stoul(parts[i].substr(kContext.size()));
    } else if (parts[i] == "nan") {
      model.edit_tensor = [](RandomTensor& tensor) {
        if (tensor.name == "blk.0.attn_norm.weight") {
          // Not NaN itself, which is refused when the model is loaded.
          std::ranges::fill(tensor.values, std::numeric_limits<float>::max());
        }
        return true;
      };
    } else {
      no_such_model(name);
    }
  }
  return model;
}

void write(const std::string& name, const std::string& bytes) {
  write_file_atomically(name, bytes);
}

constexpr std::string_view kWordsFile = "words";

}  // namespace

void make_model_file(const std::string& name) {
  const RandomModel model = describe(name);
  if (!std::filesystem::exists(name)) model.write(name);
}

std::string any_model_file(Random& random) {
  std::vector<std::string_view> shapes;
  for (const Preset& preset : presets()) {
    if (preset.name.starts_with(kTiny)) shapes.push_back(preset.name);
  }
  const std::string shape(random.any(shapes));
  return fmt::format("{}{}.{}.gguf", shape, random.once_in(8) ? ".context300" : "",
                     random.any(kTypes));
}

std::string damaged_twin(std::string name) {
  const size_t type = name.rfind('.', name.rfind('.') - 1);
  return name.insert(type, ".nan");
}

std::string without_context(const std::string& name) {
  std::string result;
  for (const std::string& part : parts_of(name)) {
    if (!part.starts_with(kContext)) result += (result.empty() ? "" : ".") + part;
  }
  return result;
}

std::string profile_file(const std::string& model) {
  make_model_file(model);
  const ModelConfig shape = Model(model).config();
  const size_t layers = shape.global_layers();
  std::string name = fmt::format("profile-{}-{}.json", layers, shape.kv_heads);
  if (std::filesystem::exists(name)) return name;
  std::string rows;
  for (size_t layer = 0; layer < layers; ++layer) {
    std::string row;
    for (size_t h = 0; h < shape.kv_heads; ++h) {
      row += fmt::format("{}{}", h == 0 ? "" : ", ", 1 + (layer * 7 + h * 3) % 5);
    }
    rows += fmt::format("{}[{}]", layer == 0 ? "" : ", ", row);
  }
  write(name, fmt::format("{{\"shares\": [{}]}}", rows));
  return name;
}

std::string statistics_file(const std::string& model) {
  make_model_file(model);
  const ModelConfig shape = Model(model).config();
  const size_t pairs = shape.rope.dim / 2;
  std::string name = fmt::format("statistics-{}-{}-{}-{}-{}.json", shape.global_layers(),
                                 shape.query_heads, pairs, shape.kv_heads, shape.width);
  if (!std::filesystem::exists(name)) {
    testing::StatisticsFile::of(shape.global_layers(), shape.query_heads, pairs, shape.kv_heads,
                                shape.width)
        .write(name);
  }
  return name;
}

std::string words(size_t count) {
  constexpr std::array kWords{"the", "of",  "and", "a",   "to",   "in", "is",   "that", "it",
                              "was", "for", "on",  "are", "with", "as", "they", "be",   "from"};
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    text += i == 0 ? "" : " ";
    text += kWords[(i * i * 7 + i * 5 + i / 11) % kWords.size()];
  }
  return text;
}

void make_text_file(const std::string& name) {
  std::error_code odd_name;
  if (std::filesystem::exists(name, odd_name)) return;
  if (name.starts_with(kWordsFile) && name.ends_with(".txt")) {
    write(name, words(std::stoul(name.substr(kWordsFile.size()))));
  } else if (name == "empty.txt") {
    write(name, "");
  } else if (name == "zero-byte.txt") {
    write(name, "before" + std::string(1, '\0') + "after " + words(40));
  } else if (name == "utf16.txt") {
    std::string text = "\xFF\xFE";
    for (const char c : words(40)) text += {c, '\0'};
    write(name, text);
  } else if (name == "latin1.txt") {
    write(name, words(40) + " \xE9\xE8\xFF\xC3");
  } else if (name == "binary.bin") {
    std::string bytes;
    for (unsigned i = 0; i < 3000; ++i) bytes += static_cast<char>((i * i * 31 + i / 7) % 256);
    write(name, bytes);
  } else if (name == "dashes.txt") {
    write(name, std::string(40000, '-'));
  }
}

std::string any_text_file(Random& random) {
  constexpr std::array kOdd{"empty.txt",  "zero-byte.txt", "utf16.txt",
                            "latin1.txt", "binary.bin",    "dashes.txt"};
  if (random.once_in(8)) return random.any(kOdd);
  constexpr std::array kCounts{1, 5, 30, 31, 32, 33, 64, 100, 300, 700};
  return fmt::format("words{}.txt", random.any(kCounts));
}

}  // namespace restkv::fuzz
