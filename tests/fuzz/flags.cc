#include "fuzz/flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "fuzz/files.h"
#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/sparse.h"

namespace restkv::fuzz {
namespace {

using Texts = std::vector<std::string_view>;

Texts split(std::string_view text) {
  Texts parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('|', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// Values around which something changes, for options whose usual range is known; all others take
/// those of their kind.
const Texts& numbers(const Flag& flag) {
  static const std::map<std::string_view, Texts> kKnown{
      {"budget", {"33", "34", "36", "40", "48", "63", "64", "65", "100", "128", "200", "500"}},
      {"tolerance", {"0.01", "0.1", "0.3", "0.9"}},
      {"max-budget", {"33", "40", "64", "100", "500"}},
      {"decode-budget", {"0", "33", "40", "64", "100", "300"}},
      {"decode-interval", {"0", "1", "3", "16", "64"}},
      {"window", {"1", "2", "8", "16", "31", "32"}},
      {"kernel", {"1", "3", "5", "21", "63", "999", "auto"}},
      {"chunk", {"1", "2", "7", "32", "64", "100", "256", "1000"}},
      {"rope-scale", {"1.5", "2", "4", "1024"}},
      {"max-tokens", {"1", "2", "5", "20"}},
      {"threads", {"0", "1", "2", "3"}},
      {"seed", {"0", "1", "4294967294"}},
      {"top-p", {"0.1", "0.95", "1"}},
      {"min-p", {"0", "0.05", "1"}},
      {"top-k", {"0", "1", "40", "100000"}},
      {"repeat-penalty", {"0.5", "1", "1.5"}},
      {"repeat-last-n", {"0", "1", "64", "1000"}},
  };
  static const Texts kWhole{"0", "1", "2", "3", "4", "5", "8", "16", "33", "64", "100", "300"};
  static const Texts kReal{"0", "0.0001", "0.1", "0.3", "0.5", "0.95", "1", "2", "40", "1000"};
  const auto known = kKnown.find(flag.name);
  if (known != kKnown.end()) return known->second;
  return flag.takes.starts_with('X') ? kReal : kWhole;
}

std::string sparse_pattern(Random& random) {
  if (random.once_in(6)) return "dense";
  const SparsePattern& pattern = sparse_patterns()[random.below(sparse_patterns().size())];
  std::string text(pattern.name);
  for (const std::string_view name : pattern.options) {
    if (!random.once_in(2)) continue;
    const SparseOption& option = *std::ranges::find(sparse_options(), name, &SparseOption::name);
    static const Texts kWhole{"0", "1", "2", "8", "16", "32", "64", "128"};
    static const Texts kReal{"0", "0.1", "0.5", "0.9", "1"};
    text += fmt::format(":{}={}", name, random.any(option.real != nullptr ? kReal : kWhole));
  }
  return text;
}

/// What must be given for an option to have an effect.
std::optional<std::string> companion(Random& random, std::string_view name) {
  constexpr std::array kPyramids{"--allocation=pyramid", "--allocation=ada-pyramid"};
  constexpr std::array kAdas{"--allocation=ada", "--allocation=ada-pyramid"};
  if (name.starts_with("pyramid-")) return random.any(kPyramids);
  if (name.starts_with("ada-")) return random.any(kAdas);
  if (name.starts_with("critical-")) return "--critical=true";
  if (name.starts_with("merge-")) return "--merge=true";
  if (name == "refit-queries") return "--refit=repeat";
  if (name == "refit-ridge") return "--refit=" + std::string(random.any(Texts{"window", "repeat"}));
  if (name == "profile") return "--allocation=profile";
  if (name == "tolerance" || name == "max-budget") return "--budget=auto";
  if (name == "chunk") return "--prefill=chunked";
  if (name == "decode-budget")
    return "--decode-interval=" + std::string(random.any(Texts{"1", "3", "16"}));
  if (name == "rope-scale")
    return "--rope-scaling=" + std::string(random.any(Texts{"linear", "ntk", "yarn"}));
  if (name == "rope-scaling") return "--rope-scale=2";
  if (name == "sparse-recall") return "--sparse=sampled";
  if (name == "logprobs") return "--stats-json=stats-json.out";
  return std::nullopt;
}

std::string flag_name(std::string_view option) {
  std::string name(option);
  std::ranges::replace(name, '_', '-');
  return name;
}

bool is_output(const Flag& flag) { return flag.name == "save-cache" || flag.name == "stats-json"; }

}  // namespace

std::vector<Flag> flags_of(const cli::ArgumentParser& parser) {
  std::vector<Flag> flags;
  for (const cli::Option* option : parser.options()) {
    if (option->is_positional()) continue;
    flags.push_back({option->name().substr(2), option->takes_value() ? option->value_name() : ""});
  }
  return flags;
}

std::string usual(Random& random, const Flag& flag, const std::string& model) {
  const auto with = [&](std::string_view value) {
    return fmt::format("--{}={}", flag.name, value);
  };
  if (flag.takes.empty()) return "--" + flag.name;
  if (flag.name == "profile") return with(random.once_in(6) ? "none" : profile_file(model));
  if (flag.name == "statistics") {
    return with(random.once_in(6) ? "none" : statistics_file(model));
  }
  if (flag.name == "method") return with(methods()[random.below(methods().size())].name);
  if (is_output(flag)) return with(flag.name + ".out");
  if (flag.takes == "FILE") return with(any_text_file(random));
  if (flag.takes.starts_with("PATTERN[")) return with(sparse_pattern(random));
  if (flag.takes.find('|') != std::string::npos && !flag.takes.starts_with('N')) {
    return with(random.any(split(flag.takes)));
  }
  if (flag.takes.starts_with('N') || flag.takes.starts_with('X')) {
    return with(random.any(numbers(flag)));
  }
  return with(words(1 + random.below(4)));
}

std::string odd(Random& random, const Flag& flag) {
  // No absolute path that could be written to.
  static const std::vector<std::string> kOdd{"-1",
                                             "0",
                                             "1e309",
                                             "-1e309",
                                             "nan",
                                             "inf",
                                             "-inf",
                                             "NaN",
                                             "2147483647",
                                             "2147483648",
                                             "-2147483649",
                                             "4294967296",
                                             "1e-320",
                                             "",
                                             "0x10",
                                             " 5",
                                             "5 ",
                                             "5.5",
                                             "1e9",
                                             "+5",
                                             "5,5",
                                             "1;2",
                                             "true",
                                             "-",
                                             "--",
                                             "%s%n",
                                             "\xFF\xFE",
                                             "9223372036854775808",
                                             ".",
                                             "none",
                                             "auto",
                                             "99999999999999999999",
                                             "=",
                                             "sampled:x=y",
                                             "missing/x.bin",
                                             std::string(5000, 'a'),
                                             "\xE2\x98\x83"};
  return fmt::format("--{}={}", flag.name, random.any(kOdd));
}

std::vector<std::string> session_words(Random& random, const std::vector<Flag>& flags,
                                       const std::string& model) {
  std::vector<std::string> words;
  const auto put = [&](const std::string& word) {
    const std::string name = word.substr(0, word.find('='));
    std::erase_if(words, [&](const std::string& w) { return w.substr(0, w.find('=')) == name; });
    words.push_back(word);
  };
  const auto add = [&](const Flag& flag) {
    if (const auto other = companion(random, flag.name)) put(*other);
    const std::string word = usual(random, flag, model);
    put(word);
    if (word == "--allocation=profile") put("--profile=" + profile_file(model));
  };
  const Method& method = methods()[random.below(methods().size())];
  words.push_back(fmt::format("--method={}", method.name));
  if (method.needs_statistics) words.push_back("--statistics=" + statistics_file(model));
  for (const Flag& flag : flags) {
    if (flag.name == "method" || flag.name == "preset") continue;
    const bool chooses = std::ranges::find(method.options, "tolerance") != method.options.end();
    if (flag.name == "max-budget" && !chooses) continue;
    const bool of_compression = std::ranges::any_of(
        compression_options(),
        [&](const CompressionOption& option) { return flag_name(option.name) == flag.name; });
    if (flag.name == "budget" || flag.name == "kv-type") {
      add(flag);
    } else if (of_compression) {
      const bool read = std::ranges::any_of(
          method.options, [&](std::string_view name) { return flag_name(name) == flag.name; });
      if (read && random.once_in(flag.name == "allocation" ? 2 : 10)) add(flag);
    } else if (random.once_in(flag.name == "positions" ? 2 : flag.takes == "X" ? 10 : 5)) {
      add(flag);
    }
  }
  return words;
}

std::string value_of(const Case& words, std::string_view name) {
  const std::string begin = fmt::format("--{}=", name);
  std::string value;
  for (const std::string& word : words) {
    if (word.starts_with(begin)) value = word.substr(begin.size());
  }
  return value;
}

}  // namespace restkv::fuzz
