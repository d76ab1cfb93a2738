#include "cli/argument_parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/closest_name.h"
#include "base/parse_number.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

template <class Value>
constexpr bool kIsList = false;
template <class Item>
constexpr bool kIsList<std::vector<Item>> = true;

std::vector<std::string_view> views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

[[noreturn]] void refuse(const CLI::Option& option, const std::string& reason) {
  throw CLI::ValidationError(option.get_name(), reason);
}

void refuse_second(const CLI::Option& option) {
  if (option.count() < 2) return;
  throw CLI::ValidationError(
      fmt::format("{} is given more than once; give it once", option.get_name()));
}

/// An empty argument is a variable of a script that was never set; no option has a use for one.
/// CLI11 would drop it, or take the next argument for the value ("--tasks= longbench").
void refuse_empty(const std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word.empty()) {
      const bool is_value = i > 0 && words[i - 1].starts_with('-');
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is empty; give a value or leave it out",
                              is_value ? fmt::format("the value of {}", words[i - 1])
                                       : fmt::format("argument {}", i + 1)));
    }
    const bool is_option = word.starts_with("--") && word.size() > 3;
    if (is_option && word.find_first_of("= \n") == word.size() - 1 && word.ends_with('=')) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has no value behind it; give one or leave it out", word));
    }
  }
}

}  // namespace

Option& Option::required() {
  option_->required();
  return *this;
}

Option& Option::range(double least, double most) {
  range_ = {least, most};
  return *this;
}

Option& Option::choices(std::vector<std::string> texts) {
  choices_ = std::move(texts);
  return *this;
}

Option& Option::needs(const Option& other) {
  option_->needs(other.option_);
  return *this;
}

Option& Option::excludes(const Option& other) {
  option_->excludes(other.option_);
  return *this;
}

Option& Option::implicit_value(std::string text) {
  option_->expected(0, 1);
  implicit_value_ = std::move(text);
  return *this;
}

Option& Option::default_text(const std::string& text) {
  option_->default_str(text);
  return *this;
}

Option& Option::hidden() {
  hidden_ = true;
  option_->group("");
  return *this;
}

Option& Option::rare() {
  rare_ = true;
  return *this;
}

Option& Option::first_word(std::string name, std::function<bool(const std::string&)> is_value) {
  first_word_ = std::move(name);
  is_first_word_ = std::move(is_value);
  return *this;
}

std::string Option::name() const { return option_->get_name(); }

std::vector<std::string> Option::names() const {
  std::vector<std::string> list;
  for (const std::string& name : option_->get_snames()) list.push_back("-" + name);
  for (const std::string& name : option_->get_lnames()) list.push_back("--" + name);
  return list;
}

bool Option::is_positional() const { return option_->get_positional() && names().empty(); }

std::string Option::position_name() const {
  return option_->get_positional() ? option_->get_name(true) : first_word_;
}

std::string Option::help() const { return option_->get_description(); }

std::string Option::default_value() const { return option_->get_default_str(); }

bool Option::is_required() const { return option_->get_required(); }

std::string Option::value_name() const { return option_->get_type_name(); }

std::string Option::group() const { return option_->get_group(); }

bool Option::takes_value() const { return option_->get_items_expected_max() > 0; }

bool Option::takes_list() const { return option_->get_items_expected_max() > 1; }

bool Option::given() const { return option_->count() > 0; }

void Option::set(const std::vector<std::string>& values) {
  try {
    option_->add_result(values);
    option_->run_callback();
  } catch (const CLI::ParseError& e) {
    throw Error(ErrorCode::kInvalidArgument, e.what());
  }
}

/// CLI11 would take "010" for eight, " 5" for five, "inf" for a temperature and
/// 99999999999999999999 for the largest seed.
template <class Value>
void Option::read(const std::string& text, Value& value) const {
  if constexpr (std::is_arithmetic_v<Value>) {
    const bool is_number = parse_number(text, value);
    if (is_number && (!range_ || range_->holds(static_cast<double>(value)))) return;
    const std::string wanted =
        range_ ? fmt::format("a {}number from {} to {}", std::is_integral_v<Value> ? "whole " : "",
                             range_->least, range_->most)
               : number_wanted<Value>();
    refuse(*option_, fmt::format("\"{}\" is not {}", text, wanted));
  } else {
    value = text.empty() ? implicit_value_ : text;
    if (!choices_.empty() && std::ranges::find(choices_, text) == choices_.end()) {
      refuse(*option_, fmt::format("{} not in {{{}}}", text, fmt::join(choices_, ",")));
    }
  }
}

/// Appends the items of a text like "64,128". CLI11 would leave out an empty place.
template <class Item>
void Option::read(const std::string& text, std::vector<Item>& list) const {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (part.empty()) {
      refuse(*option_,
             fmt::format("\"{}\" has an empty place; put something there or remove a comma", text));
    }
    Item item{};
    read(part, item);
    if (std::ranges::find(list, item) != list.end()) {
      refuse(*option_, fmt::format("\"{}\" names {} a second time; once is enough", text, part));
    }
    list.push_back(std::move(item));
    begin = end + 1;
  }
}

ArgumentParser::ArgumentParser(const std::string& program, const std::string& description)
    : ArgumentParser(std::make_shared<CLI::App>(description, program)) {}

ArgumentParser::ArgumentParser(std::shared_ptr<CLI::App> app) : app_(std::move(app)) {}

ArgumentParser::~ArgumentParser() = default;

Option& ArgumentParser::declare(std::string_view names, std::string_view help,
                                std::string_view value_name, Read read) {
  Option& option = *options_.emplace_back(std::make_unique<Option>());
  const auto read_all = [&option, read = std::move(read)](const CLI::results_t& /*joined*/) {
    read(option, option.option_->results());
    return true;
  };
  option.option_ = app_->add_option(std::string(names), read_all, std::string(help))
                       ->type_name(std::string(value_name))
                       ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return option;
}

template <class Value>
Option& ArgumentParser::add(std::string_view names, Value& value, std::string_view help,
                            std::string_view value_name) {
  if constexpr (kIsList<Value>) {
    Option& option = declare(names, help, value_name,
                             [&value](const Option& self, const std::vector<std::string>& texts) {
                               Value list;
                               for (const std::string& text : texts) self.read(text, list);
                               value = std::move(list);
                             });
    option.option_->expected(1, CLI::detail::expected_max_vector_size);
    return option.default_text(fmt::format("{}", fmt::join(value, ",")));
  } else {
    return declare(names, help, value_name,
                   [&value](const Option& self, const std::vector<std::string>& texts) {
                     for (const std::string& text : texts) self.read(text, value);
                     refuse_second(*self.option_);
                   })
        .default_text(fmt::format("{}", value));
  }
}

template Option& ArgumentParser::add(std::string_view, int&, std::string_view, std::string_view);
template Option& ArgumentParser::add(std::string_view, uint32_t&, std::string_view,
                                     std::string_view);
template Option& ArgumentParser::add(std::string_view, uint64_t&, std::string_view,
                                     std::string_view);
template Option& ArgumentParser::add(std::string_view, float&, std::string_view, std::string_view);
template Option& ArgumentParser::add(std::string_view, double&, std::string_view, std::string_view);
template Option& ArgumentParser::add(std::string_view, std::string&, std::string_view,
                                     std::string_view);
template Option& ArgumentParser::add(std::string_view, std::vector<int>&, std::string_view,
                                     std::string_view);
template Option& ArgumentParser::add(std::string_view, std::vector<uint64_t>&, std::string_view,
                                     std::string_view);
template Option& ArgumentParser::add(std::string_view, std::vector<std::string>&, std::string_view,
                                     std::string_view);

Option& ArgumentParser::add_repeated(std::string_view names, std::vector<std::string>& values,
                                     std::string_view help, std::string_view value_name) {
  Option& option = declare(
      names, help, value_name,
      [&values](const Option& /*self*/, const std::vector<std::string>& texts) { values = texts; });
  option.option_->expected(1, CLI::detail::expected_max_vector_size)
      ->allow_extra_args(option.is_positional());
  return option;
}

Option& ArgumentParser::add_callback(std::string_view names,
                                     std::function<void(const std::string&)> store,
                                     std::string_view help, std::string_view value_name) {
  return declare(
      names, help, value_name,
      [store = std::move(store)](const Option& self, const std::vector<std::string>& texts) {
        refuse_second(*self.option_);
        std::string value;
        self.read(texts.front(), value);
        store(value);
      });
}

Option& ArgumentParser::add_flag(std::string_view names, bool& value, std::string_view help) {
  Option& option = *options_.emplace_back(std::make_unique<Option>());
  option.option_ = app_->add_flag(std::string(names), value, std::string(help));
  return option;
}

void ArgumentParser::add_rest(std::vector<std::string>& words) {
  app_->prefix_command();
  rest_ = &words;
}

void ArgumentParser::add_version(const std::string& text) {
  app_->set_version_flag("--version", text);
}

ArgumentParser& ArgumentParser::add_command(std::string_view name, std::string_view summary) {
  app_->require_subcommand(1);
  CLI::App* const app = app_->add_subcommand(std::string(name), std::string(summary));
  // The constructor is private, also to make_unique.
  commands_.emplace_back(new ArgumentParser(app_->get_subcommand_ptr(app)));
  return *commands_.back();
}

void ArgumentParser::begin_group(const std::string& heading) {
  app_->option_defaults()->group(heading);
}

void ArgumentParser::set_footer(const std::string& text) { app_->footer(text); }

ArgumentParser* ArgumentParser::find_command(std::string_view name) const {
  const auto found = std::ranges::find_if(
      commands_, [&](const auto& command) { return command->app_->get_name() == name; });
  return found == commands_.end() ? nullptr : found->get();
}

std::vector<std::string> ArgumentParser::prepared(const std::vector<std::string>& words) {
  if (words.empty() || rest_ != nullptr) return words;
  ArgumentParser* const command = find_command(words.front());
  if (command == nullptr) return commands_.empty() ? with_first_word_named(words) : words;
  std::vector<std::string> all{words.begin() + 1, words.end()};
  if (translate_) all = translate_(std::move(all), *command);
  all = command->with_first_word_named(std::move(all));
  all.insert(all.begin(), words.front());
  return all;
}

std::vector<std::string> ArgumentParser::with_first_word_named(std::vector<std::string> words) {
  const auto named = std::ranges::find_if(
      options_, [](const auto& option) { return option->is_first_word_ != nullptr; });
  if (named == options_.end()) return words;
  for (size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') {
      if ((*named)->is_first_word_(word)) words[i] = (*named)->name() + "=" + word;
      return words;
    }
    const bool is_short = word[1] != '-';
    const size_t end = is_short ? 2 : std::min(word.find('='), word.size());
    const Option* option = find_typed(word.substr(0, end));
    if (option == named->get()) return words;
    const bool value_follows = option != nullptr && end == word.size() && option->takes_value() &&
                               !option->may_lack_value();
    if (value_follows) ++i;
  }
  return words;
}

bool ArgumentParser::has_rare() const {
  return std::ranges::any_of(options_, [](const auto& option) { return option->rare_; });
}

void ArgumentParser::add_help_all() {
  if (has_rare() && app_->get_help_all_ptr() == nullptr) {
    app_->set_help_all_flag("--help-all", "Print all options and exit")->group("Options");
  }
  for (const auto& command : commands_) command->add_help_all();
}

std::string ArgumentParser::help_text(bool all) {
  const std::vector<CLI::App*> chosen = app_->get_subcommands();
  const ArgumentParser& shown = chosen.empty() ? *this : *find_command(chosen.front()->get_name());
  if (all || !shown.has_rare()) return app_->help();
  std::vector<std::pair<CLI::Option*, std::string>> groups;
  for (const auto& option : shown.options_) {
    if (!option->rare_ || option->hidden_) continue;
    groups.emplace_back(option->option_, option->option_->get_group());
    option->option_->group("");
  }
  std::string text = app_->help();
  for (auto& [option, group] : groups) option->group(group);
  return text + fmt::format("{} more options: {}{} --help-all\n", groups.size(), app_->get_name(),
                            chosen.empty() ? "" : " " + chosen.front()->get_name());
}

std::optional<std::string> ArgumentParser::parse(const std::vector<std::string>& words) {
  refuse_empty(words);
  add_help_all();
  std::vector<std::string> all = prepared(words);
  std::ranges::reverse(all);
  try {
    app_->parse(std::move(all));
  } catch (const CLI::CallForHelp&) {
    return help_text(false);
  } catch (const CLI::CallForAllHelp&) {
    return help_text(true);
  } catch (const CLI::ParseError& e) {
    std::ostringstream text;
    if (app_->exit(e, text, text) == 0) return text.str();
    throw Error(ErrorCode::kInvalidArgument, usage_error(e));
  }
  if (rest_ != nullptr) *rest_ = app_->remaining();
  return std::nullopt;
}

std::string ArgumentParser::usage_error(const CLI::ParseError& error) const {
  const std::vector<CLI::App*> chosen = app_->get_subcommands();
  if (!commands_.empty() && chosen.empty()) {
    std::vector<std::string> names;
    for (const auto& command : commands_) names.push_back(command->app_->get_name());
    const std::vector<std::string> unknown = app_->remaining();
    return fmt::format("{}; commands are {}\n{} --help shows what they do.",
                       unknown.empty() ? "no command is given"
                                       : "there is no command or option " + unknown.front() +
                                             did_you_mean(unknown.front(), views(names)),
                       fmt::join(names, ", "), app_->get_name());
  }
  const CLI::App& read = chosen.empty() ? *app_ : *chosen.front();
  const std::vector<std::string> unread = read.remaining();
  // An option that is missing may be one with a typing error in its name.
  const auto unknown =
      std::ranges::find_if(unread, [](const std::string& word) { return word.starts_with('-'); });
  const bool unexpected =
      dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr ||
      (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && unknown != unread.end());
  std::string reason = error.what();
  if (unexpected) {
    reason = fmt::format("unexpected: {}", fmt::join(unread, " "));
    if (unknown != unread.end()) {
      const ArgumentParser& parser =
          chosen.empty() ? *this : *find_command(chosen.front()->get_name());
      std::vector<std::string> names{"--help"};
      for (const auto& option : parser.options_) {
        if (option->hidden_) continue;
        for (std::string& name : option->names()) names.push_back(std::move(name));
      }
      reason += did_you_mean(unknown->substr(0, unknown->find('=')), views(names));
    }
  }
  return fmt::format("{}\n{}{} --help shows what is expected.", reason, app_->get_name(),
                     chosen.empty() ? "" : " " + read.get_name());
}

std::string ArgumentParser::name() const { return app_->get_name(); }

std::string ArgumentParser::summary() const { return app_->get_description(); }

std::string ArgumentParser::footer() const { return app_->get_footer(); }

std::string ArgumentParser::command() const { return app_->get_subcommands().front()->get_name(); }

std::vector<const Option*> ArgumentParser::options() const {
  std::vector<const Option*> list;
  for (const auto& option : options_) list.push_back(option.get());
  return list;
}

Option* ArgumentParser::find_typed(std::string_view name) {
  for (const auto& option : options_) {
    const std::vector<std::string> names = option->names();
    if (std::ranges::find(names, name) != names.end()) return option.get();
  }
  return nullptr;
}

Option* ArgumentParser::find(const std::string& name) {
  const CLI::Option* found = app_->get_option_no_throw("--" + name);
  if (found == nullptr) found = app_->get_option_no_throw(name);  // positional arguments
  const auto at =
      std::ranges::find_if(options_, [&](const auto& option) { return option->option_ == found; });
  return found == nullptr || at == options_.end() ? nullptr : at->get();
}

}  // namespace restkv::cli
