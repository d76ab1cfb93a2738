#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "calibrate/calibrator.h"
#include "calibrate/progress_file.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/model_argument.h"
#include "cli/model_flags.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "document/document.h"
#include "restkv/conversation.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {
namespace {

namespace fs = std::filesystem;

/// Shorter pieces of texts say little about what is needed of a context.
constexpr size_t kLeastTokens = 64;
constexpr size_t kUsualLength = 2048;

struct CalibrateFlags {
  std::string model, output;
  std::vector<std::string> texts;
  size_t length = 0;
  int threads = 0;
  ModelFlags model_flags;
};

/// The files, and those in the folders, by name.
std::vector<std::string> files_of(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> inside;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->is_regular_file() && !entry->path().filename().string().starts_with('.')) {
        inside.push_back(entry->path().string());
      }
    }
    if (error) {
      throw Error(ErrorCode::kInput, fmt::format("{}: {}", path, error.message()));
    }
    if (inside.empty()) {
      throw Error(ErrorCode::kInput, fmt::format("{}: the folder has no files", path));
    }
    std::ranges::sort(inside);
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

using Pieces = std::vector<std::vector<int32_t>>;

size_t tokens_of(const Pieces& pieces) {
  size_t tokens = 0;
  for (const auto& piece : pieces) tokens += piece.size();
  return tokens;
}

/// The texts in pieces of `length` tokens.
Pieces read_pieces(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                   size_t length) {
  Pieces pieces;
  size_t left_out = 0;
  for (const std::string& file : files) {
    if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
    const std::string text = document::read_document(read_file(file), {.name = file}).text;
    const std::vector<int32_t> tokens = tokenizer.encode(text, false, false);
    for (size_t begin = 0; begin < tokens.size(); begin += length) {
      const size_t count = std::min(length, tokens.size() - begin);
      const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(begin);
      if (count < kLeastTokens) {
        left_out += count;
      } else {
        pieces.emplace_back(first, first + static_cast<std::ptrdiff_t>(count));
      }
    }
  }
  if (left_out > 0) {
    notice(fmt::format("{} tokens in pieces of less than {} are left out", left_out, kLeastTokens));
  }
  return pieces;
}

/// Throws unless there are enough tokens to learn from.
void require_enough(const Pieces& pieces, const ModelConfig& config) {
  const size_t tokens = tokens_of(pieces);
  const size_t usual = 10 * config.width;
  if (tokens <= config.width) {
    throw Error(ErrorCode::kInput,
                fmt::format("the texts have {} tokens in pieces of {} or more, but {} weights per "
                            "head are to be learned from them; give at least {} tokens",
                            tokens, kLeastTokens, config.width, usual));
  }
  if (tokens < usual) {
    notice(
        fmt::format("the texts have {} tokens only; weights learned from less than {} hardly "
                    "hold for other texts",
                    tokens, usual));
  }
}

std::string summary(const Calibration& calibration, size_t texts, double seconds) {
  std::string table =
      fmt::format("{} tokens in {} pieces, {:.1f} min\n", calibration.tokens, texts, seconds / 60);
  table += fmt::format("{:>5}  {:>6}  {:>6}  {:>6}\n", "layer", "R^2", "least", "most");
  const auto row = [&](const std::string& name, const std::vector<float>& fit) {
    double sum = 0;
    for (const float x : fit) sum += double{x};
    table += fmt::format("{:>5}  {:>6.3f}  {:>6.3f}  {:>6.3f}\n", name,
                         sum / static_cast<double>(fit.size()), *std::ranges::min_element(fit),
                         *std::ranges::max_element(fit));
  };
  std::vector<float> all;
  for (size_t l = 0; l < calibration.scores.size(); ++l) {
    const std::vector<float>& fit = calibration.scores[l].fit;
    row(fmt::format("{}", l), fit);
    all.insert(all.end(), fit.begin(), fit.end());
  }
  row("all", all);
  return table;
}

/// Reads all pieces that have not been read by an earlier start.
void learn(Calibrator& calibrator, const Pieces& pieces, uint64_t plan, const std::string& state) {
  if (load_progress(calibrator, plan, state)) {
    notice(fmt::format("{} of {} pieces have been read before", calibrator.texts(), pieces.size()));
  }
  const auto all = static_cast<double>(tokens_of(pieces));
  Progress progress(stderr, "calibrating");
  for (size_t i = calibrator.texts(); i < pieces.size(); ++i) {
    const auto before = static_cast<double>(calibrator.tokens());
    try {
      calibrator.add(pieces[i], [&](double done) {
        progress.update((before + done * static_cast<double>(pieces[i].size())) / all,
                        fmt::format("piece {} of {}", i + 1, pieces.size()));
        return !interrupted();
      });
    } catch (const Error& e) {
      if (e.code() == ErrorCode::kInterrupted && i > 0) {
        notice(fmt::format("the same command goes on behind the {} pieces in {}", i, state));
      }
      throw;
    }
    if (i + 1 < pieces.size()) save_progress(calibrator, plan, state);
  }
  progress.finish();
}

int calibrate(const CalibrateFlags& flags) {
  require_model(flags.model);
  use_threads(flags.threads);
  refuse_standard_output("--output", flags.output);
  const std::string state = flags.output + ".sums";
  const std::vector<std::string> files = files_of(flags.texts);
  CommandFiles named;
  named.reads("--model", flags.model);
  for (const std::string& file : files) named.reads("--text", file);
  named.writes("--output", flags.output);
  named.writes("the sums of --output", state);

  const ModelOptions model_options = flags.model_flags.resolve();
  const std::string path = model_file(flags.model);
  const Model model(path, model_options);
  const Tokenizer tokenizer(path);
  RepeatPrompt words = repeat_prompt(tokenizer);
  // Without a chat template a prompt begins with the model's first token, if it has one.
  if (words.prefix.empty()) words.prefix = tokenizer.encode("", true, false);
  Calibrator calibrator(model, std::move(words));
  const size_t longest = calibrator.longest_text();
  if (flags.length > longest) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--length is {}, but a piece stands twice in the model's context of {} "
                            "tokens, with words around it; give at most {}",
                            flags.length, model.config().context_length, longest));
  }
  const size_t length = flags.length > 0 ? flags.length : std::min(kUsualLength, longest);
  catch_interrupts();
  const Stopwatch watch;
  const Pieces pieces = read_pieces(files, tokenizer, length);
  require_enough(pieces, model.config());
  say(fmt::format("{} tokens in {} pieces; {} of sums in memory and in {} meanwhile",
                  tokens_of(pieces), pieces.size(),
                  human_bytes(static_cast<double>(calibrator.bytes())), state));
  learn(calibrator, pieces, calibration_plan(model, pieces), state);
  const Calibration calibration = calibrator.result();
  write_file_atomically(flags.output, calibration_text(calibration));
  std::error_code unknown;
  fs::remove(state, unknown);
  print(summary(calibration, calibrator.texts(), watch.seconds()));
  return kSuccess;
}

}  // namespace

std::function<int()> declare_calibrate(ArgumentParser& parser) {
  auto flags = std::make_shared<CalibrateFlags>();
  declare_model(parser, flags->model);
  parser
      .add_repeated("--text", flags->texts,
                    "a text, HTML or PDF file, or a folder of them; may be given several times",
                    "PATH")
      .required();
  parser
      .add("-o,--output", flags->output,
           "write what was learned, for --statistics; FILE.sums holds what an interrupted start "
           "has gathered",
           "FILE")
      .required();
  parser
      .add("--length", flags->length,
           "tokens of the pieces that texts are cut into, each read by itself; 0: 2048, or less if "
           "the model's context is short",
           "N")
      .range(0, 1 << 24);
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  flags->model_flags.declare(parser);
  parser.set_footer(
      "The model reads each piece and repeats it. This teaches the method kvzap, once per model, "
      "to\n"
      "predict how much a token will matter, and triattention where the model's queries point.\n"
      "Give texts like those to be compressed, of at least ten tokens per channel of the model.\n"
      "Examples:\n"
      "  restkv calibrate -m model.gguf --text reports -o model.stats\n"
      "  restkv calibrate -m model.gguf --text book.txt --text manual.pdf -o model.stats\n"
      "  restkv ask -m model.gguf report.txt -q 'Who wrote it?' --method kvzap \\\n"
      "      --statistics model.stats --budget 25%\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options, 130 interrupted.");
  return [flags] { return calibrate(*flags); };
}

}  // namespace restkv::cli
