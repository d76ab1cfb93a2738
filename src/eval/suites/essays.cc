#include "eval/suites/essays.h"

#include <fmt/format.h>
#include <unicode/brkiter.h>
#include <unicode/utext.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/stories.h"
#include "base/text.h"
#include "eval/metrics/text.h"
#include "eval/suites/find_file.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

using std::filesystem::path;

std::vector<path> text_files(const path& folder) {
  std::vector<path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

/// Python's `re.sub(r"\s+", " ", text)` without white space at the ends.
std::string collapse(std::string_view raw) {
  const std::u32string characters = text::decode(raw);
  return text::encode(text::join(text::split(characters), U" "));
}

std::vector<size_t> word_ends(std::string_view text) {
  std::vector<size_t> ends;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') ends.push_back(i);
  }
  if (!text.empty()) ends.push_back(text.size());
  return ends;
}

/// Spans given in code points; nothing if they belong to another text.
std::optional<std::vector<Essays::Span>> given_sentences(const path& file, std::string_view text,
                                                         size_t words) {
  const auto given = read_json(file.string());
  std::vector<size_t> offsets;  // byte of each code point
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) offsets.push_back(i);
  }
  try {
    if (count_field(given, "n_chars") != offsets.size() || count_field(given, "n_words") != words) {
      return std::nullopt;
    }
    offsets.push_back(text.size());
    std::vector<Essays::Span> sentences;
    const auto offset = [&](const Json& span, size_t end) {
      const auto& value = span.is_array() && span.size() == 2 ? span[end] : span;
      if (!value.is_number_unsigned() || value.get<size_t>() >= offsets.size()) {
        throw Error(
            ErrorCode::kInput,
            fmt::format("field 'spans' holds {}, which is no part of the text", shown(span)));
      }
      return offsets[value.get<size_t>()];
    };
    for (const auto& span : list_field(given, "spans")) {
      sentences.push_back({offset(span, 0), offset(span, 1)});
    }
    return sentences;
  } catch (const Error& error) {
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", file.string(), error.what()));
  }
}

std::vector<Essays::Span> icu_sentences(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createSentenceInstance(icu::Locale::getEnglish(), status));
  const std::unique_ptr<UText, decltype(&utext_close)> utf8(
      utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &status),
      utext_close);
  if (U_SUCCESS(status)) breaks->setText(utf8.get(), status);
  if (U_FAILURE(status)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("ICU cannot cut the essays into sentences: {}", u_errorName(status)));
  }
  std::vector<Essays::Span> sentences;
  size_t begin = 0;
  for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE; end = breaks->next()) {
    const size_t last = text.find_last_not_of(' ', static_cast<size_t>(end) - 1);
    if (last != std::string_view::npos && last >= begin) sentences.push_back({begin, last + 1});
    begin = static_cast<size_t>(end);
  }
  return sentences;
}

Essays stories(size_t words, uint64_t seed) {
  Essays essays;
  Random random(seed, "stories", 0);
  Stories sentences(random);
  while (essays.words.size() < words) {
    if (!essays.text.empty()) essays.text += ' ';
    const size_t begin = essays.text.size();
    essays.text += sentences.next();
    essays.sentences.push_back({begin, essays.text.size()});
    for (size_t i = begin; i <= essays.text.size(); ++i) {
      if (i == essays.text.size() || essays.text[i] == ' ') essays.words.push_back(i);
    }
  }
  essays.raw = essays.text;
  essays.notes = {
      "haystack: generated stories (project-defined); the published one, Paul Graham's essays, is "
      "used with a data folder that has them"};
  return essays;
}

}  // namespace

std::vector<std::string_view> Essays::first(size_t count) const {
  count = std::min(count, words.size());
  const size_t end = count == 0 ? 0 : words[count - 1];
  std::vector<std::string_view> result;
  for (const Span& sentence : sentences) {
    if (sentence.begin >= end) break;
    result.push_back(std::string_view(text).substr(sentence.begin,
                                                   std::min(sentence.end, end) - sentence.begin));
  }
  return result;
}

Essays load_essays(const path& data, size_t words, uint64_t seed) {
  if (data.empty()) return stories(words, seed);
  Essays essays;
  std::string origin;
  if (const auto joined = find_file(data, "ruler/PaulGrahamEssays.json")) {
    essays.files = {*joined};
    const auto content = read_json(joined->string());
    if (!content.is_object() || !content.contains("text") || !content["text"].is_string()) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}: no text field \"text\"; RULER's download script makes the file",
                              joined->string()));
    }
    essays.raw = content["text"].get<std::string>();
    origin = "RULER's own file";
  } else {
    if (const auto folder = find_file(data, "niah/PaulGrahamEssays")) {
      essays.files = text_files(*folder);
    }
    if (essays.files.empty()) return stories(words, seed);
    for (const path& file : essays.files) {
      essays.raw += to_utf8(read_file(file.string()), file.string());
    }
    origin = fmt::format("{} files in the order of their names", essays.files.size());
  }
  essays.text = collapse(essays.raw);
  essays.words = word_ends(essays.text);
  if (essays.words.empty()) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: the essays have no words", essays.files.front().string()));
  }
  essays.notes = {
      fmt::format("haystack: Paul Graham's essays, {}, {} words", origin, essays.words.size())};

  const auto spans = find_file(data, "ruler/essay_sentence_spans.json");
  auto given = spans ? given_sentences(*spans, essays.text, essays.words.size()) : std::nullopt;
  if (given) {
    essays.sentences = std::move(*given);
    essays.files.push_back(*spans);
  } else {
    essays.sentences = icu_sentences(essays.text);
    essays.notes.emplace_back("sentences of the essays: ICU's rules (published: Punkt)");
  }
  return essays;
}

}  // namespace restkv::eval
