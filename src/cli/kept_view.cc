#include "cli/kept_view.h"

#include <fmt/format.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "base/printable.h"
#include "cli/colours.h"

namespace restkv::cli {
namespace {

/// Shares of the heads below which a token counts as forgotten, and from which it counts as kept.
constexpr double kLeastShare = 0.125;
constexpr double kMostHeads = 0.5;
/// More of them would not be read; half from the beginning, half from the end.
constexpr size_t kMostTokens = 3000;

Tone tone_of(double share) {
  if (share < kLeastShare) return Tone::kForgotten;
  return share < kMostHeads ? Tone::kFaint : Tone::kKept;
}

}  // namespace

std::string kept_view(const server::KeptTokens& kept, const Tokenizer& tokenizer, bool colours) {
  const auto heads = static_cast<double>(kept.layers * kept.heads);
  const size_t count = kept.tokens.size();
  const double held =
      heads == 0 ? 0 : std::accumulate(kept.kept.begin(), kept.kept.end(), 0.0) / heads;
  std::string text = fmt::format("{:.0f} of {} tokens are kept per KV head. ", held, count);
  text += colours
              ? coloured(Tone::kKept, "In most heads") + ", " + coloured(Tone::kFaint, "in some") +
                    ", " + coloured(Tone::kForgotten, "in hardly any:") + "\n"
              : "[...]: in hardly any of them.\n";
  Utf8Stream characters;
  Tone tone = Tone::kKept;
  std::string run;
  const auto end_run = [&] {
    if (run.empty()) return;
    if (colours) {
      text += coloured(tone, printable(run));
    } else {
      text += tone == Tone::kForgotten ? "[...]" : printable(run);
    }
    run.clear();
  };
  for (size_t i = 0; i < count; ++i) {
    if (count > kMostTokens && i == kMostTokens / 2) {
      end_run();
      i = count - kMostTokens / 2;
      text += fmt::format("\n[{} tokens between them are not shown]\n", count - kMostTokens);
    }
    const Tone here = tone_of(heads == 0 ? 1 : kept.kept[i] / heads);
    const bool same =
        colours ? here == tone : (here == Tone::kForgotten) == (tone == Tone::kForgotten);
    if (!same) end_run();
    tone = here;
    run += characters.push(tokenizer.piece(kept.tokens[i], true));
  }
  end_run();
  return text;
}

}  // namespace restkv::cli
