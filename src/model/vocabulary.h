#pragma once

#include "model/gguf_file.h"

namespace restkv {

/// Refuses vocabularies that libllama would answer by ending the process or by taking memory
/// without limit, or by taking other tokens than the file names. What it refuses by itself is left
/// to it.
/// Throws `Error`: kInput (names the key and the token), kUnsupported (another kind of tokenizer
/// than SentencePiece's and byte-level BPE, which all supported families use).
void check_vocabulary(const GgufFile& file);

}  // namespace restkv
