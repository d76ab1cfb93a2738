#pragma once

#include "model/gguf_file.h"

namespace restkv {

/// Refuses vocabularies that make libllama abort the process, use unlimited memory, or use other
/// tokens than the file names. Other faults are left to libllama.
/// Throws `Error`: kInput (names the key and the token), kUnsupported (tokenizers other than
/// SentencePiece and byte-level BPE, which all supported families use).
void check_vocabulary(const GgufFile& file);

}  // namespace restkv
