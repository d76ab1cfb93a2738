#include "models.h"

#include <fmt/format.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "doors/sequence.h"
#include "doors/settings.h"
#include "errors.h"
#include "restkv/error.h"
#include "restkv/generate.h"
#include "restkv/precision.h"

namespace restkv::python {
namespace {

struct Model {
  std::shared_ptr<const doors::LoadedModel> model;
};
struct Sequence {
  std::shared_ptr<doors::Sequence> sequence;
};
struct Answer {
  std::unique_ptr<doors::Answer> answer;
};

/// Text for Python; what is no UTF-8 becomes U+FFFD.
nb::object text_of(std::string_view bytes) {
  return nb::steal(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

Model open_model(const std::string& path, int threads, const std::string& linear,
                 const std::string& attention, const std::string& rope_scaling,
                 double rope_factor) {
  ModelOptions options;
  options.linear = find_linear_precision(linear);
  options.attention = find_attention_precision(attention);
  options.rope_scaling = rope_scaling;
  options.rope_factor = rope_factor;
  const nb::gil_scoped_release others_go_on;
  return {std::make_shared<const doors::LoadedModel>(path, options, threads)};
}

nb::dict info_of(const Model& m) {
  const ModelConfig& config = m.model->model().config();
  nb::dict info;
  info["architecture"] = config.architecture;
  info["name"] = text_of(config.name);
  info["layers"] = config.layers;
  info["query_heads"] = config.query_heads;
  info["kv_heads"] = config.kv_heads;
  info["key_dim"] = config.key_dim;
  info["value_dim"] = config.value_dim;
  info["width"] = config.width;
  info["vocabulary"] = config.vocabulary;
  info["context_length"] = config.context_length;
  info["threads"] = m.model->threads();
  return info;
}

std::vector<ChatMessage> messages_of(
    const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::vector<ChatMessage> messages;
  for (const auto& [role, content] : pairs) messages.push_back({role, content});
  return messages;
}

Sequence begin(const Model& m, const std::string& method, const std::string& budget,
               const std::string& kv_type, const std::string& sparse, size_t chunk, size_t interval,
               int decode_budget, bool compact_positions, const std::string& system) {
  std::vector<std::string> notices;
  Sequence sequence{doors::Sequence::begin(m.model,
                                           {.method = method,
                                            .budget = budget,
                                            .kv_type = kv_type,
                                            .sparse = sparse,
                                            .chunk = chunk,
                                            .interval = interval,
                                            .decode_budget = decode_budget,
                                            .compact_positions = compact_positions,
                                            .system = system},
                                           notices)};
  warn(notices);
  return sequence;
}

nb::dict stats_of(const Sequence& s) {
  const doors::Sequence::Stats stats = s.sequence->stats();
  nb::dict result;
  result["tokens"] = stats.tokens;
  result["kept"] = stats.kept;
  result["kv_bytes"] = stats.kv_bytes;
  result["full_kv_bytes"] = stats.full_kv_bytes;
  result["allocated_bytes"] = stats.allocated_bytes;
  result["compress_seconds"] = stats.compress_seconds;
  return result;
}

nb::object logits_of(const Sequence& s) {
  auto* logits = new std::vector<float>(s.sequence->logits());
  const nb::capsule owner(logits,
                          [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  return nb::ndarray<nb::numpy, float, nb::ndim<1>>(logits->data(), {logits->size()}, owner).cast();
}

Answer write(const Sequence& s, size_t max_tokens, size_t min_tokens,
             const std::vector<std::string>& stop, const std::string& sampling) {
  GenerationOptions options;
  options.max_tokens = max_tokens;
  options.min_tokens = min_tokens;
  options.stop = stop;
  options.sampling = doors::parse_sampling(sampling);
  return {std::make_unique<doors::Answer>(s.sequence, std::move(options))};
}

nb::object next_piece(const Answer& a) {
  check_signals();
  std::optional<std::string> piece;
  {
    const nb::gil_scoped_release others_go_on;
    piece = a.answer->next();
  }
  check_signals();
  return piece ? text_of(*piece) : nb::none();
}

const char* finish_reason_of(const Answer& a) {
  switch (a.answer->result().finish_reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kStop:
      break;
  }
  return "stop";
}

void write_together(const nb::list& list, const nb::object& on_text) {
  std::vector<Answer*> given;
  for (const nb::handle one : list) given.push_back(&nb::cast<Answer&>(one));
  std::vector<std::unique_ptr<doors::Answer>> answers;
  // They are the list's again whatever happens.
  struct GiveBack {
    ~GiveBack() {
      for (size_t i = 0; i < answers.size(); ++i) given[i]->answer = std::move(answers[i]);
    }
    std::vector<Answer*>& given;
    std::vector<std::unique_ptr<doors::Answer>>& answers;
  } give_back{given, answers};
  for (Answer* one : given) {
    if (!one->answer) {
      throw Error(ErrorCode::kInvalidArgument, "an answer is twice in the list, or in use");
    }
    answers.push_back(std::move(one->answer));
  }
  bool raised = false;
  {
    const nb::gil_scoped_release others_go_on;
    doors::Answer::write_together(answers, [&](size_t number, std::string_view text) {
      const nb::gil_scoped_acquire lock;
      if (PyErr_CheckSignals() != 0) {
        raised = true;
        return false;
      }
      if (on_text.is_none()) return true;
      try {
        on_text(number, text_of(text));
      } catch (nb::python_error& e) {
        e.restore();
        raised = true;
        return false;
      }
      return true;
    });
  }
  if (raised) throw nb::python_error();
}

const doors::Answer& answer_of(const Answer& a) {
  if (a.answer) return *a.answer;
  throw Error(ErrorCode::kInvalidArgument, "this answer is being written together with others");
}

}  // namespace

void bind_models(nb::module_& m) {
  nb::class_<Model>(m, "Model")
      .def_static("open", &open_model, nb::arg("path"), nb::arg("threads"), nb::arg("linear"),
                  nb::arg("attention"), nb::arg("rope_scaling"), nb::arg("rope_factor"))
      .def("info", &info_of)
      .def("has_chat_template",
           [](const Model& self) { return self.model->tokenizer().has_chat_template(); })
      .def("end_tokens", [](const Model& self) { return self.model->tokenizer().end_tokens(); })
      .def("prefix_token", [](const Model& self) { return self.model->tokenizer().prefix_token(); })
      .def(
          "tokenize",
          [](const Model& self, const std::string& text, bool add_special, bool parse_special) {
            const nb::gil_scoped_release others_go_on;
            return self.model->tokenizer().encode(text, add_special, parse_special);
          },
          nb::arg("text"), nb::arg("add_special"), nb::arg("parse_special"))
      .def(
          "detokenize",
          [](const Model& self, const std::vector<int32_t>& tokens, bool render_special) {
            const Tokenizer& tokenizer = self.model->tokenizer();
            for (const int32_t token : tokens) {
              if (token >= 0 && static_cast<size_t>(token) < tokenizer.vocabulary()) continue;
              throw Error(ErrorCode::kInvalidArgument,
                          fmt::format("token {} is outside the vocabulary of {}", token,
                                      tokenizer.vocabulary()));
            }
            return text_of(tokenizer.decode(tokens, render_special));
          },
          nb::arg("tokens"), nb::arg("render_special"))
      .def(
          "format_chat",
          [](const Model& self, const std::vector<std::pair<std::string, std::string>>& messages) {
            return text_of(self.model->tokenizer().format_chat(messages_of(messages)).text);
          },
          nb::arg("messages"))
      .def("begin", &begin, nb::arg("method"), nb::arg("budget"), nb::arg("kv_type"),
           nb::arg("sparse"), nb::arg("chunk"), nb::arg("interval"), nb::arg("decode_budget"),
           nb::arg("compact_positions"), nb::arg("system"))
      .def(
          "load",
          [](const Model& self, const std::string& path) {
            const nb::gil_scoped_release others_go_on;
            return Sequence{doors::Sequence::load(self.model, path)};
          },
          nb::arg("path"));

  nb::class_<Sequence>(m, "Sequence")
      .def(
          "append",
          [](const Sequence& self, const std::vector<int32_t>& tokens, const nb::object& progress) {
            reading(progress, [&](const ProgressCallback& p) { self.sequence->append(tokens, p); });
          },
          nb::arg("tokens"), nb::arg("progress").none())
      .def(
          "read_document",
          [](const Sequence& self, const std::string& text, const nb::object& progress) {
            reading(progress,
                    [&](const ProgressCallback& p) { self.sequence->read_document(text, p); });
          },
          nb::arg("text"), nb::arg("progress").none())
      .def(
          "read_chat",
          [](const Sequence& self, const std::vector<std::pair<std::string, std::string>>& messages,
             const nb::object& progress) {
            reading(progress, [&](const ProgressCallback& p) {
              self.sequence->read_chat(messages_of(messages), p);
            });
          },
          nb::arg("messages"), nb::arg("progress").none())
      .def(
          "ask",
          [](const Sequence& self, const std::string& text, const nb::object& progress) {
            reading(progress, [&](const ProgressCallback& p) { self.sequence->ask(text, p); });
          },
          nb::arg("text"), nb::arg("progress").none())
      .def("fork",
           [](const Sequence& self) {
             const nb::gil_scoped_release others_go_on;
             return Sequence{self.sequence->fork()};
           })
      .def(
          "save",
          [](const Sequence& self, const std::string& path) {
            const nb::gil_scoped_release others_go_on;
            self.sequence->save(path);
          },
          nb::arg("path"))
      .def("compress",
           [](const Sequence& self) {
             const nb::gil_scoped_release others_go_on;
             self.sequence->compress();
           })
      .def("set_budget",
           [](const Sequence& self, int tokens) { self.sequence->set_budget(tokens); })
      .def("is_document", [](const Sequence& self) { return self.sequence->stats().is_document; })
      .def("is_conversation",
           [](const Sequence& self) { return self.sequence->stats().is_conversation; })
      .def("stats", &stats_of)
      .def("logits", &logits_of)
      .def("write", &write, nb::arg("max_tokens"), nb::arg("min_tokens"), nb::arg("stop"),
           nb::arg("sampling"));

  nb::class_<Answer>(m, "Answer")
      .def("next", [](const Answer& self) { return answer_of(self), next_piece(self); })
      .def("stop",
           [](const Answer& self) {
             answer_of(self);
             self.answer->stop();
           })
      .def("ended", [](const Answer& self) { return answer_of(self).ended(); })
      .def("text", [](const Answer& self) { return text_of(answer_of(self).result().text); })
      .def("tokens", [](const Answer& self) { return answer_of(self).result().tokens; })
      .def("finish_reason",
           [](const Answer& self) { return answer_of(self), finish_reason_of(self); })
      .def("seconds", [](const Answer& self) { return answer_of(self).result().seconds; });
  m.def("write_together", &write_together, nb::arg("answers"), nb::arg("on_text").none());
}

}  // namespace restkv::python
