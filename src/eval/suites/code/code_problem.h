#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/random.h"

namespace restkv::eval {

/// A record of HumanEval: a function to complete, and a program that tests it.
struct CodeProblem {
  std::string id;           ///< "HumanEval/0"
  std::string prompt;       ///< Python up to the end of the function's docstring.
  std::string entry_point;  ///< The function's name.
  std::string solution;     ///< A body that passes.
  std::string test;         ///< Defines `check(candidate)`.
};

/// Throws `Error` (kInput) if a field is missing or no text.
CodeProblem code_problem(const Json& record);

/// The program around a completion, with a newline before the second part.
struct Harness {
  std::string before;
  std::string after;
};
Harness harness_of(const CodeProblem& problem);
std::string assemble(const Harness& harness, std::string_view completion);

/// A problem whose solution imports a function from a module that was originally part of it.
struct HelperProblem {
  CodeProblem rest;  ///< `solution` still calls the function without importing it.
  std::string name;  ///< The function's name with four digits, so that models do not know it.
  std::string source;
};

/// Removes a helper function from the prompt or, if it has none, from the outer level of the
/// solution. None if there is no such function.
std::optional<HelperProblem> take_helper(const CodeProblem& problem, Random& random);

/// The same as `harness_of`, with the function in a module of this name.
Harness harness_of(const HelperProblem& problem, const std::string& module);

/// Whether a line of a text in Python or a language with braces seems to define `name`: a function,
/// class, method or variable. Calls are no definitions; in doubt the answer is yes.
bool defines(std::string_view text, std::string_view name);

}  // namespace restkv::eval
