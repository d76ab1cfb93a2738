#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/closest_name.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/compression_flags.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "eval/needle.h"
#include "eval/notices.h"
#include "model/split_name.h"
#include "report/needle_report.h"
#include "restkv/budget.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {
namespace {

/// Long enough for a seven-digit number, one token per digit, and the end of the sentence.
constexpr size_t kAnswerTokens = 16;

struct DemoFlags {
  std::string model;
  std::string output = "restkv-demo";
  std::string haystack = "noise";
  std::string essay;
  size_t tokens = 4000;
  size_t depths = 5;
  // Each indicator with its authors' smoothing and with restkv's, which decides more than the rest.
  std::vector<std::string> methods{"streaming-llm",       "snapkv",
                                   "snapkv:kernel=21",    "snapkv:kernel=auto",
                                   "restkv:preset=paper", "restkv"};
  std::vector<int> budgets{64, 128, 256, 512};
  uint64_t seed = 42;
  int threads = 0;
};

/// A column of the comparison.
struct MethodSpec {
  std::string label;
  CompressionOptions options;
};

/// What `--methods all` stands for: every method, and those that are an allocation over SnapKV's
/// scores; SnapKV with kernel 21 too, which suits retrieval, and with ReST-KV's smoothing, and
/// ReST-KV with its authors' values.
std::vector<std::string> all_methods() {
  std::vector<std::string> list;
  for (const Method& method : methods()) {
    if (method.name == "full" || method.needs_statistics) continue;
    list.emplace_back(method.name);
    if (method.name == "snapkv") {
      list.insert(list.end(),
                  {"snapkv:kernel=21", "snapkv:kernel=auto", "snapkv:kernel=21:allocation=pyramid",
                   "snapkv:kernel=21:allocation=ada"});
    } else if (method.name == "restkv") {
      list.insert(list.end(), {"restkv:preset=paper", "restkv:kernel=21",
                               "restkv:allocation=pyramid", "restkv:allocation=ada"});
    }
  }
  return list;
}

std::vector<MethodSpec> method_specs(const DemoFlags& flags) {
  std::vector<MethodSpec> list;
  const auto add = [&](const std::string& text) {
    std::string label = text;  // "snapkv:kernel=21" reads "snapkv kernel=21"
    std::replace(label.begin(), label.end(), ':', ' ');
    if (std::ranges::find(list, label, &MethodSpec::label) != list.end()) return;  // also in "all"
    if (same_name(label, "full")) return;  // it is there anyway, once
    list.push_back({label, parse_method(text)});
  };
  for (const std::string& text : flags.methods) {
    if (text != "all") {
      add(text);
    } else {
      for (const std::string& each : all_methods()) add(each);
    }
  }
  return list;
}

/// A needle prompt as the model reads it, and where the needle's tokens are.
struct EncodedNeedle {
  eval::NeedlePrompt prompt;
  std::vector<int32_t> tokens;
  size_t needle_begin = 0;
  size_t needle_end = 0;
};

ChatText rendered(const Tokenizer& tokenizer, const eval::NeedlePrompt& prompt) {
  const std::string body = prompt.text + prompt.question;
  if (!tokenizer.has_chat_template()) {
    return {.text = body + prompt.answer_prefix, .contents = {{0, body.size()}}};
  }
  const ChatMessage message{"user", body};
  std::string prefix = prompt.answer_prefix;
  prefix.erase(0, prefix.find_first_not_of(' '));  // the assistant's turn begins with it
  ChatText chat = tokenizer.format_chat({&message, 1});
  chat.text += prefix;
  return chat;
}

EncodedNeedle encode_needle(const Tokenizer& tokenizer, const eval::NeedleRequest& request) {
  const auto count = [&](std::string_view text) {
    return tokenizer.encode(text, false, false).size();
  };
  EncodedNeedle needle;
  needle.prompt = eval::make_needle_prompt(request, count);
  const ChatText chat = rendered(tokenizer, needle.prompt);
  needle.tokens = tokenizer.encode(chat, true);
  const size_t offset = chat.text.find(needle.prompt.needle());
  const auto tokens_before = [&](size_t end) {
    return tokenizer.encode(chat.part(0, end), true).size();
  };
  needle.needle_begin = tokens_before(offset);
  needle.needle_end = tokens_before(offset + needle.prompt.needle().size());
  return needle;
}

/// The same report again, on any machine: all that decides it, with the model's own file name.
std::string command_of(const DemoFlags& flags, const std::string& model_file) {
  const auto quoted = [](const std::string& word) {
    constexpr std::string_view kPlain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=:,./+@%";
    if (word.find_first_not_of(kPlain) == std::string::npos) return word;
    std::string text = "'";
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
  };
  std::string command =
      fmt::format("restkv demo -m {} --tokens {} --depths {} --seed {} --haystack {}",
                  quoted(model_file), flags.tokens, flags.depths, flags.seed, flags.haystack);
  if (!flags.essay.empty()) {
    command += " --essay " + quoted(std::filesystem::path(flags.essay).filename().string());
  }
  return command + fmt::format(" --methods {} --budgets {}",
                               quoted(fmt::format("{}", fmt::join(flags.methods, ","))),
                               fmt::join(flags.budgets, ","));
}

eval::NeedleReport compare(const DemoFlags& flags, const std::vector<MethodSpec>& methods) {
  const std::string path = model_file(flags.model);
  const Model model(path);
  if (flags.tokens > model.config().context_length) {  // before the prompt is invented
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--tokens {} is too long: the model's context holds {}", flags.tokens,
                            model.config().context_length));
  }
  const Tokenizer tokenizer(path);
  Engine engine(model);
  const std::string essay =
      flags.essay.empty() ? std::string() : to_utf8(read_file(flags.essay), flags.essay);

  eval::NeedleReport report;
  // Files say more than their metadata, which often name a training run.
  const std::filesystem::path file = std::filesystem::canonical(path);
  report.model = model_file_name(file.string());
  report.machine = machine_description();
  report.version = RESTKV_VERSION;
  report.date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)));
  report.command = command_of(flags, file.filename().string());
  catch_interrupts();
  Progress progress(stderr, "demo");
  const auto share_of_prompt = [&](size_t prompt, double part) {
    return (static_cast<double>(prompt) + part) / static_cast<double>(flags.depths);
  };

  for (size_t i = 0; i < flags.depths; ++i) {
    const double depth =
        flags.depths == 1 ? 0.5 : static_cast<double>(i) / static_cast<double>(flags.depths - 1);
    const EncodedNeedle needle =
        encode_needle(tokenizer, {.seed = flags.seed + i,
                                  .depth = depth,
                                  .target_tokens = flags.tokens,
                                  .haystack = eval::haystack_from_name(flags.haystack),
                                  .essay = essay});

    // One prefill serves all methods and budgets: each layer is compressed for all of them.
    struct Entry {
      std::string label;
      int budget;
    };
    std::vector<Entry> entries{{"full", 0}};
    std::vector<CacheRequest> requests(1);
    requests[0].options = default_options("full");
    for (const int budget : flags.budgets) {
      for (const MethodSpec& method : methods) {
        CacheRequest& request = requests.emplace_back();
        request.options = method.options;
        request.options.budget = budget;
        request.keep_selections = i == flags.depths / 2;
        entries.push_back({method.label, budget});
      }
    }
    std::optional<RepeatPrompt> words;
    for (const CacheRequest& request : requests) {
      if (!words && repeat_chunk(request.options) > 0) words = repeat_prompt(tokenizer);
    }
    const Stopwatch watch;
    const std::vector<float> logits = engine.prefill(
        needle.tokens, requests,
        [&](double done) {
          progress.update(share_of_prompt(i, 0.7 * done),
                          fmt::format("prompt {}/{}: reading", i + 1, flags.depths));
          return !interrupted();
        },
        words);
    double prefill_seconds = watch.seconds();
    for (const CacheRequest& request : requests) prefill_seconds -= request.compress_seconds;

    report.prompt_tokens = std::max(report.prompt_tokens, needle.tokens.size());
    if (i == flags.depths / 2) {
      report.example_prompt = needle.prompt.prompt();
      report.example_needle = needle.prompt.needle();
    }
    for (size_t e = 0; e < requests.size(); ++e) {
      CacheRequest& request = requests[e];
      const auto kept = static_cast<double>(request.cache.kept_bytes());
      GenerationOptions options;
      options.max_tokens = kAnswerTokens;
      options.on_text = [](std::string_view) { return !interrupted(); };
      const GenerationResult answer =
          generate([&](int32_t token) { return engine.decode(token, request.cache); }, logits,
                   tokenizer, options);
      if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
      report.cells.push_back({.method = entries[e].label,
                              .budget = entries[e].budget,
                              .depth = depth,
                              .found = eval::answer_found(answer.text, needle.prompt.answer),
                              .answer = needle.prompt.answer,
                              .output = answer.text,
                              .kv_mib = kept / (1024.0 * 1024.0),
                              .prefill_seconds = prefill_seconds,
                              .compress_seconds = request.compress_seconds,
                              .decode_tokens_per_second = answer.tokens_per_second()});
      // The map shows the tightest budget, where a method must choose most carefully.
      if (request.keep_selections && entries[e].budget == flags.budgets.front()) {
        eval::KeptMap map{.method = entries[e].label,
                          .budget = entries[e].budget,
                          .prompt_tokens = needle.tokens.size(),
                          .needle_begin = needle.needle_begin,
                          .needle_end = needle.needle_end,
                          .keep = {},
                          .needle_pieces = {},
                          .answer = needle.prompt.answer};
        for (size_t t = needle.needle_begin; t < needle.needle_end; ++t) {
          map.needle_pieces.push_back(tokenizer.piece(needle.tokens[t]));
        }
        for (Selection& layer : request.selections) map.keep.push_back(std::move(layer.keep));
        report.maps.push_back(std::move(map));
      }
      request = {};
      progress.update(share_of_prompt(i, 0.7 + 0.3 * static_cast<double>(e + 1) /
                                                   static_cast<double>(requests.size())),
                      fmt::format("prompt {}/{}: answering", i + 1, flags.depths));
    }
  }
  progress.finish();
  return report;
}

int demo(const DemoFlags& flags) {
  require_model(flags.model);
  refuse_standard_output("--output", flags.output);
  use_threads(flags.threads);
  const bool essay = eval::haystack_from_name(flags.haystack) == eval::Haystack::kEssay;
  if (essay == flags.essay.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                essay ? "--haystack essay needs its text: --essay FILE"
                      : "--essay has an effect with --haystack essay only");
  }
  const std::vector<MethodSpec> methods = method_specs(flags);
  for (const int budget : flags.budgets) {
    for (MethodSpec method : methods) {
      method.options.budget = budget;
      validate(method.options);  // before minutes of work
    }
  }
  const std::filesystem::path folder = flags.output;
  require_writable_folder(flags.output,  // before minutes of work
                          {"needle.svg", "kept.svg", "needle.md", "needle.json", "index.html"});
  const eval::NeedleReport report = compare(flags, methods);
  std::set<Budget> budgets;
  for (const int tokens : flags.budgets) budgets.insert(Budget{0, tokens});
  const std::string unused = eval::describe_unused_budgets(budgets, report.prompt_tokens);
  if (!unused.empty()) notice(unused);
  make_folder(flags.output);
  write_file_atomically(folder / "needle.svg", eval::heatmap_svg(report));
  write_file_atomically(folder / "kept.svg", eval::kept_map_svg(report));
  write_file_atomically(folder / "needle.md", eval::markdown(report));
  write_file_atomically(folder / "needle.json", eval::json(report));
  write_file_atomically(folder / "index.html", eval::html(report));
  print(eval::table(report));
  print(fmt::format("\nPictures and all answers: {}\n", (folder / "index.html").string()));
  return kSuccess;
}

}  // namespace

std::function<int()> declare_demo(ArgumentParser& parser) {
  auto flags = std::make_shared<DemoFlags>();
  declare_model(parser, flags->model);
  parser.add("-o,--output", flags->output, "folder for the report", "DIR");
  parser.add("--haystack", flags->haystack, "noise, stories or essay", "KIND");
  parser.add("--essay", flags->essay, "text file for --haystack essay", "FILE");
  parser.add("--tokens", flags->tokens, "length of a prompt", "N").range(1, 1 << 30);
  parser.add("--depths", flags->depths, "needle depths, evenly spread", "N").range(1, 100);
  parser.add("--methods", flags->methods,
             "methods with options, for instance restkv:kernel=21; all is every one", "NAME,...");
  parser.add("--budgets", flags->budgets, "tokens kept per KV head", "N,...");
  parser.add("--seed", flags->seed, "seed of the first prompt", "N");
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  parser.set_footer(
      "Examples:\n"
      "  restkv demo -m model.gguf -o report\n"
      "  restkv demo -m model.gguf --tokens 2000 --budgets 64,128 --depths 10\n"
      "  restkv demo -m model.gguf --methods snapkv,snapkv:allocation=ada,h2o");
  return [flags] { return demo(*flags); };
}

}  // namespace restkv::cli
