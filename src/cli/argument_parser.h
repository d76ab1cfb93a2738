#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

// CLI11, which takes seconds to compile in every file that includes it, is included by
// argument_parser.cc alone.
namespace CLI {
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace restkv::cli {

/// An option ("-m,--model") or a positional argument ("suite"), as a command declares it.
class Option {
 public:
  /// What follows belongs behind the declaration: `parser.add(...).range(1, 100)`.
  Option& required();
  /// Refuses numbers outside of [least, most].
  Option& range(double least, double most);
  /// Refuses other texts than these.
  Option& choices(std::vector<std::string> texts);
  /// Refuses the option without the other one.
  Option& needs(const Option& other);
  /// Refuses the option beside the other one.
  Option& excludes(const Option& other);
  /// The option may stand without a value, and then means this one.
  Option& implicit_value(std::string text);
  /// What the help says the value is if it is not given, where the variable does not tell.
  Option& default_text(const std::string& text);
  /// Leaves the option out of the help.
  Option& hidden();
  /// `--help` leaves the option out, `--help-all` shows it: what few people need.
  Option& rare();
  /// The option may stand without its name, as the first word that is no option and no value, if
  /// `is_value` knows it by its looks. Then it comes before positional arguments. `name`: what it
  /// is called there.
  Option& first_word(std::string name, std::function<bool(const std::string& word)> is_value);

  /// "--model"; "suite" of a positional argument.
  [[nodiscard]] std::string name() const;
  /// All of them, as they are typed: "-m", "--model". None of a positional argument.
  [[nodiscard]] std::vector<std::string> names() const;
  /// Whether it can stand without a name only.
  [[nodiscard]] bool is_positional() const;
  /// What it is called where it stands without a name; empty if it cannot.
  [[nodiscard]] std::string position_name() const;
  [[nodiscard]] std::string help() const;
  /// What the help shows as the value if none is given; may be empty.
  [[nodiscard]] std::string default_value() const;
  [[nodiscard]] bool is_required() const;
  [[nodiscard]] bool is_hidden() const { return hidden_; }
  [[nodiscard]] bool is_rare() const { return rare_; }
  /// What stands for the value in the help: "FILE".
  [[nodiscard]] std::string value_name() const;
  [[nodiscard]] std::string group() const;
  /// False for a flag.
  [[nodiscard]] bool takes_value() const;
  [[nodiscard]] bool takes_list() const;
  /// Whether it may stand without the value that it takes (`implicit_value`).
  [[nodiscard]] bool may_lack_value() const { return !implicit_value_.empty(); }
  /// The texts that it takes, if `choices` says so.
  [[nodiscard]] const std::vector<std::string>& texts() const { return choices_; }
  /// Whether it stands on the command line.
  [[nodiscard]] bool given() const;
  /// Gives an option that does not stand on the command line these values, as if it did. Throws
  /// `Error` (kInvalidArgument) on one that is none.
  void set(const std::vector<std::string>& values);

 private:
  friend class ArgumentParser;
  struct Range {
    double least, most;
    [[nodiscard]] bool holds(double value) const { return least <= value && value <= most; }
  };
  template <class Value>
  void read(const std::string& text, Value& value) const;
  template <class Item>
  void read(const std::string& text, std::vector<Item>& list) const;

  CLI::Option* option_ = nullptr;
  std::optional<Range> range_;
  std::vector<std::string> choices_;
  std::string implicit_value_;
  bool hidden_ = false;
  bool rare_ = false;
  std::string first_word_;
  std::function<bool(const std::string&)> is_first_word_;
};

/// What makes other words of a command line's: the words behind the name of a command, and which
/// options it has.
class ArgumentParser;
using Translate = std::function<std::vector<std::string>(std::vector<std::string> words,
                                                         ArgumentParser& command)>;

/// The options and positional arguments of a program or of one of its commands: what the help says
/// about them, and the variables that get their values. Numbers are what `parse_number` reads, an
/// option stands once, and no value is empty.
class ArgumentParser {
 public:
  explicit ArgumentParser(const std::string& program, const std::string& description = "");
  ~ArgumentParser();
  ArgumentParser(const ArgumentParser&) = delete;
  ArgumentParser& operator=(const ArgumentParser&) = delete;

  /// Declares an option (`names` with dashes), a positional argument, or one that may stand as
  /// either ("-m,--model,model"). Its value goes to a number, a text, or a list of them, separated
  /// by commas and none twice. The help shows what `value` is before as its default.
  template <class Value>
  Option& add(std::string_view names, Value& value, std::string_view help,
              std::string_view value_name);
  /// Every text as it is, commas and all: an option may stand several times, a positional argument
  /// takes all that are there.
  Option& add_repeated(std::string_view names, std::vector<std::string>& values,
                       std::string_view help, std::string_view value_name);
  /// Hands the value to `store`.
  Option& add_callback(std::string_view names, std::function<void(const std::string&)> store,
                       std::string_view help, std::string_view value_name);
  /// An option without a value. "--name,!--no-name" has an opposite, too.
  Option& add_flag(std::string_view names, bool& value, std::string_view help);
  /// Parsing ends at the first word that is no option: it and all behind it go to `words`.
  void add_rest(std::vector<std::string>& words);
  /// `--version` shows `text`.
  void add_version(const std::string& text);
  /// A command, one of which must be given then. Lives as long as this parser.
  ArgumentParser& add_command(std::string_view name, std::string_view summary);
  /// Heading in the help of all that is declared from now on.
  void begin_group(const std::string& heading);
  /// What the help ends with.
  void set_footer(const std::string& text);
  /// Words of other programs' command lines become those of this one before they are read.
  void set_translation(Translate translate) { translate_ = std::move(translate); }

  /// Reads a command line without the program's name. Returns the text that `--help`, `--help-all`
  /// or `--version` asks for, if one of them is given. Throws `Error` (kInvalidArgument) on what
  /// cannot be read, naming it, what was probably meant, and the help that says what is expected.
  std::optional<std::string> parse(const std::vector<std::string>& words);

  /// Name of the command that was given.
  [[nodiscard]] std::string command() const;
  /// All but `--help`, `--help-all` and `--version`, in the order of their declarations.
  [[nodiscard]] std::vector<const Option*> options() const;
  /// By name: "kv-type", "suite"; null if there is none.
  [[nodiscard]] Option* find(const std::string& name);
  /// As it is typed: "-m", "--model"; null if there is none.
  [[nodiscard]] Option* find_typed(std::string_view name);
  [[nodiscard]] const std::vector<std::unique_ptr<ArgumentParser>>& commands() const {
    return commands_;
  }
  /// The words, with the name of `Option::first_word` before the one that it knows.
  [[nodiscard]] std::vector<std::string> with_first_word_named(std::vector<std::string> words);
  [[nodiscard]] std::string name() const;
  [[nodiscard]] std::string summary() const;
  [[nodiscard]] std::string footer() const;
  /// Whether some options are `rare`, so that `--help-all` shows more.
  [[nodiscard]] bool has_rare() const;

 private:
  explicit ArgumentParser(std::shared_ptr<CLI::App> app);
  using Read = std::function<void(const Option&, const std::vector<std::string>& texts)>;
  Option& declare(std::string_view names, std::string_view help, std::string_view value_name,
                  Read read);
  [[nodiscard]] std::string usage_error(const CLI::ParseError& error) const;
  [[nodiscard]] ArgumentParser* find_command(std::string_view name) const;
  /// The words as CLI11 is to read them.
  [[nodiscard]] std::vector<std::string> prepared(const std::vector<std::string>& words);
  /// Makes `--help-all` known where it shows more.
  void add_help_all();
  /// The help of the command that was given, or of the program.
  [[nodiscard]] std::string help_text(bool all);

  std::shared_ptr<CLI::App> app_;
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<std::unique_ptr<ArgumentParser>> commands_;
  std::vector<std::string>* rest_ = nullptr;
  Translate translate_;
};

}  // namespace restkv::cli
