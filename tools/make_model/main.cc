// Writes GGUF models with random weights, for measurements and tests with shapes whose real weights
// are large or not free.

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "base/system.h"
#include "cli/argument_parser.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "make_model/first_layers.h"
#include "make_model/presets.h"
#include "make_model/random_model.h"
#include "restkv/error.h"

namespace restkv {
namespace {

struct Flags {
  std::string shape, file;
  std::string type = "F16";
  std::string tokenizer = RESTKV_TOKENIZER;
  size_t layers = 0;
  size_t vocabulary = 0;
  uint64_t seed = 1;
  int threads = 0;
  bool list = false;
};

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string type_names() {
  std::string names;
  for (const ggml_type type : weight_types()) {
    names += (names.empty() ? "" : ", ") + upper(ggml_type_name(type));
  }
  return names;
}

ggml_type find_type(const std::string& name) {
  for (const ggml_type type : weight_types()) {
    if (upper(ggml_type_name(type)) == upper(name)) return type;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("there is no type '{}'; known: {}", name, type_names()));
}

std::string list() {
  std::string text =
      fmt::format("{:<18} {:<6} {:>6} {:>6} {:>9} {:>10} {:>9}  {}\n", "shape", "family", "layers",
                  "width", "heads", "vocabulary", "weights", "what it has");
  for (const Preset& preset : presets()) {
    const RandomModel& m = preset.model;
    text += fmt::format("{:<18} {:<6} {:>6} {:>6} {:>9} {:>10} {:>7.2f} G  {}\n", preset.name,
                        m.architecture, m.layers, m.width,
                        fmt::format("{}/{}x{}", m.query_heads, m.kv_heads, m.head_dim),
                        m.vocabulary, static_cast<double>(m.size().weights) * 1e-9, preset.what);
  }
  return text + "\nheads: query heads / KV heads x channels of each\ntypes: " + type_names() + "\n";
}

/// Throws if the file to write is the one that is read.
void require_other_file(const Flags& flags, const std::string& read) {
  if (!same_file(flags.file, read)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is the file that would be read; choose another name", flags.file));
}

void make(const Flags& flags) {
  require_other_file(flags, flags.tokenizer);
  require_writable(flags.file);
  RandomModel model = find_preset(flags.shape);
  model.type = find_type(flags.type);
  model.tokenizer = flags.tokenizer;
  model.seed = flags.seed;
  if (flags.layers != 0) {
    // Reports and pictures name models: figures of a part must not pass for those of the whole.
    if (flags.layers != model.layers) {
      model.name += fmt::format(", {} of {} layers", flags.layers, model.layers);
    }
    model.layers = flags.layers;
  }
  if (flags.vocabulary != 0) model.vocabulary = flags.vocabulary;

  const RandomModel::Size size = model.size();
  std::error_code unknown;
  const auto folder = std::filesystem::absolute(flags.file).parent_path();
  const std::filesystem::space_info space = std::filesystem::space(folder, unknown);
  if (!unknown && std::filesystem::is_directory(folder) && space.available < size.bytes) {
    throw Error(
        ErrorCode::kIo,
        fmt::format("{} needs {}, but {} has {} free; choose another folder, fewer --layers "
                    "or a smaller --type",
                    flags.file, human_bytes(static_cast<double>(size.bytes)), folder.string(),
                    human_bytes(static_cast<double>(space.available))));
  }
  cli::catch_interrupts();
  Progress progress(stderr, fmt::format("writing {}", flags.file));
  model.write(flags.file, [&](double fraction, std::string_view tensor) {
    progress.update(fraction, tensor);
    return !cli::interrupted();
  });
  progress.finish();
  cli::print(fmt::format(
      "{}: {} with random weights (seed {}), {} layers, {:.2f} G weights, {}, {} "
      "tokens of {}\n",
      flags.file, flags.shape, flags.seed, model.layers, static_cast<double>(size.weights) * 1e-9,
      human_bytes(static_cast<double>(size.bytes)), model.vocabulary, flags.tokenizer));
}

/// Whether the shape is a model file, whose first layers are copied.
bool is_file(const std::string& shape) { return shape.ends_with(".gguf"); }

void copy_first_layers(const Flags& flags) {
  if (flags.layers == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the number of layers of {} is missing; add --layers N", flags.shape));
  }
  require_other_file(flags, flags.shape);
  write_first_layers(flags.shape, flags.layers, flags.file);
  cli::print(fmt::format("{}: the first {} layers of {}\n", flags.file, flags.layers, flags.shape));
}

int run(int argc, char** argv) {
  cli::ArgumentParser parser(
      "script/make-model", "Writes a GGUF model with random weights that restkv and libllama load");
  Flags flags;
  parser.add("shape", flags.shape,
             "a name that --list shows; or a GGUF file, whose first --layers are copied as they "
             "are",
             "SHAPE");
  parser.add("file", flags.file, "the GGUF file to write", "FILE");
  parser.add("--type", flags.type, "of the matrices; norms and biases stay F32", "TYPE");
  parser.add("--layers", flags.layers, "instead of the shape's own", "N")
      .range(1, 512)
      .default_text("");
  parser
      .add("--vocabulary", flags.vocabulary,
           "tokens, instead of the shape's own: the tokenizer's last ones are left out, or "
           "unused ones added",
           "N")
      .range(512, 1 << 24)
      .default_text("");
  parser.add("--tokenizer", flags.tokenizer, "GGUF file whose tokenizer is copied", "FILE");
  parser.add("--seed", flags.seed, "of the weights", "N");
  parser.add("-t,--threads", flags.threads, "0: one per processor", "N");
  parser.add_flag("--list", flags.list, "show shapes and types");
  parser.set_footer(
      "The weights are random, so the text is nonsense; speed and memory are those of the shape.\n"
      "Examples:\n"
      "  script/make-model --list\n"
      "  script/make-model Llama-3.1-8B llama.gguf --type Q4_K\n"
      "  script/make-model Gemma-2-9B gemma.gguf --type Q4_0 --layers 4\n"
      "  script/make-model tiny-qwen3 tiny.gguf --type F32 --seed 7\n"
      "  script/make-model smollm2.gguf first-four.gguf --layers 4");
  if (const auto text = parser.parse({argv + 1, argv + argc})) {
    cli::print(*text);
    return cli::kSuccess;
  }
  if (flags.list) {
    cli::print(list());
    return cli::kSuccess;
  }
  if (flags.shape.empty() || flags.file.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "a shape and a file to write are needed\n"
                "script/make-model --help shows what is expected.");
  }
  cli::use_threads(flags.threads);
  if (is_file(flags.shape)) {
    copy_first_layers(flags);
  } else {
    make(flags);
  }
  return cli::kSuccess;
}

}  // namespace
}  // namespace restkv

int main(int argc, char** argv) {
  return restkv::cli::run_main("make-model", [&] { return restkv::run(argc, argv); });
}
