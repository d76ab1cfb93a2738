#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fuzz/campaign.h"

/// Files that cases name; each is made in the working folder when it is first needed, and its name
/// says what is in it.
namespace restkv::fuzz {

/// "tiny-gemma3.Q8_0.gguf": a tiny shape of tools/make_model and the type of its weights. Between
/// them may stand "context300" (tokens) and "nan": a model that computes NaN from its first layer
/// on, so that what is refused before anything is computed looks the same as with the sound one.
/// Throws `Error` (kInvalidArgument) on other names.
void make_model_file(const std::string& name);
std::string any_model_file(Random& random);
/// "tiny-gemma3.Q8_0.gguf" -> "tiny-gemma3.nan.Q8_0.gguf"
std::string damaged_twin(std::string name);
/// The same model with its usual context.
std::string without_context(const std::string& name);

/// A profile for the model's layers and heads: "profile-3-2.json".
std::string profile_file(const std::string& model);

/// Query statistics for the model: "statistics-3-4-8.json".
std::string statistics_file(const std::string& model);

/// `count` words; the same for the same count.
std::string words(size_t count);
/// "words300.txt" and files that nobody should send as a prompt. Other names are left alone.
void make_text_file(const std::string& name);
std::string any_text_file(Random& random);

}  // namespace restkv::fuzz
