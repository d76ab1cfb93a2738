#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::eval {

/// The text that RULER's essay tasks and NIAH hide their needles in: Paul Graham's essays where the
/// user has them (they may not be passed on), else generated stories.
struct Essays {
  struct Span {
    size_t begin = 0;
    size_t end = 0;
  };

  std::string raw;              ///< As read, one essay after the other without a separator.
  std::string text;             ///< `raw` with every run of white space collapsed to one space.
  std::vector<size_t> words;    ///< End of each word in `text`, in bytes.
  std::vector<Span> sentences;  ///< In `text`, in bytes, without the white space between them.

  std::vector<std::filesystem::path> files;  ///< Empty for stories.
  std::vector<std::string> notes;            ///< For reports.

  /// The sentences of the first `count` words; the last one may be cut short.
  [[nodiscard]] std::vector<std::string_view> first(size_t count) const;
};

/// Below `data`, in this order: ruler/PaulGrahamEssays.json ({"text": ...}, RULER's own file), then
/// niah/PaulGrahamEssays/*.txt in the order of their names. Sentences are those of
/// ruler/essay_sentence_spans.json (Punkt, as RULER cuts them) if that file was made from the same
/// text, else ICU's. If there is neither, or `data` is empty: stories of at least `words` words.
/// Throws Error(kInput) for a file that cannot be read or used.
Essays load_essays(const std::filesystem::path& data, size_t words, uint64_t seed);

}  // namespace restkv::eval
