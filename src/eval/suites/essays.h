#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::eval {

/// The haystack of RULER's essay tasks and of NIAH: Paul Graham's essays if the user has them (they
/// may not be redistributed), otherwise generated stories.
struct Essays {
  struct Span {
    size_t begin = 0;
    size_t end = 0;
  };

  std::string raw;              ///< As read; essays are joined without a separator.
  std::string text;             ///< `raw` with every run of white space collapsed to one space.
  std::vector<size_t> words;    ///< End of each word in `text`, in bytes.
  std::vector<Span> sentences;  ///< In `text`, in bytes, without the white space between them.

  std::vector<std::filesystem::path> files;  ///< Empty for stories.
  std::vector<std::string> notes;            ///< For reports.

  /// The sentences of the first `count` words; the last one may be cut short.
  [[nodiscard]] std::vector<std::string_view> first(size_t count) const;
};

/// Loads the first of these below `data`: ruler/PaulGrahamEssays.json ({"text": ...}, RULER's own
/// file), niah/PaulGrahamEssays/*.txt in the order of names. Sentences are those of
/// ruler/essay_sentence_spans.json (Punkt, as in RULER) if that file belongs to the text, otherwise
/// ICU's. Without files, makes stories of at least `words` words. Throws `Error` (kInput) for a
/// file that cannot be read or used.
Essays load_essays(const std::filesystem::path& data, size_t words, uint64_t seed);

}  // namespace restkv::eval
