// Reads a document of any length with a small, fixed KV cache and answers a question about it.
//
//   build/examples/answer model.gguf report.txt "What was decided?"

#include <fstream>
#include <iostream>
#include <iterator>

#include "restkv/conversation.h"
#include "restkv/error.h"
#include "restkv/generate.h"

int main(int argc, char** argv) try {
  if (argc != 4) throw restkv::Error(restkv::ErrorCode::kInvalidArgument, "usage: answer MODEL FILE QUESTION");
  const restkv::Model model(argv[1]);
  const restkv::Tokenizer tokenizer(argv[1]);
  std::ifstream file(argv[2]);
  if (!file) throw restkv::Error(restkv::ErrorCode::kInput, std::string(argv[2]) + ": cannot be read");
  const std::string document{std::istreambuf_iterator<char>(file), {}};

  restkv::SessionOptions options;
  options.compression = restkv::default_options("restkv");
  options.compression.budget = 1024;  // tokens that every layer and head keeps of the document
  options.chunk = 2048;              // read so many tokens, cut the cache, read on: ...
  options.interval = 256;            // ... and the same while the answer is written
  options.compact_positions = true;  // kept tokens move together: documents may exceed the context
  restkv::Session session(model, options);
  restkv::Conversation conversation(tokenizer);
  session.append(conversation.ask(document + "\n\n" + argv[3]).tokens);

  restkv::GenerationOptions generation;
  generation.on_text = [](std::string_view text) { return bool(std::cout << text << std::flush); };
  restkv::generate(session, tokenizer, generation);
  std::cout << '\n';
} catch (const restkv::Error& e) {
  std::cerr << "answer: " << e.what() << '\n';
  return 1;
}
