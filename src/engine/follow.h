#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "restkv/engine.h"
#include "restkv/session.h"

/// Sessions of a model that several processes share. Rank 0 uses `Session` as ever: before each of
/// its sessions computes or changes something, it tells the other processes, which do the same with
/// sessions of their own. So all of them meet in the sums of the forward pass.
namespace restkv {

/// What rank 0 does with a session.
enum class SessionCall : uint8_t {
  kStop,       ///< Nothing any more.
  kBegin,      ///< A new session: its options follow.
  kCopy,       ///< A new session: the number of the one it copies follows.
  kEnd,        ///< It is destroyed.
  kPrompt,     ///< Begins a prompt: tokens and whether somebody hears logits follow.
  kStep,       ///< A step of the prompt: its stride follows.
  kEndPrompt,  ///< The prompt is complete, or given up.
  kTokens,     ///< A token for each of several sessions: their numbers and tokens follow.
  kCompress,
  kBudget,   ///< The budget follows.
  kReserve,  ///< The tokens follow.
};

/// The numbers and words of a call, in its order.
class CallBytes {
 public:
  CallBytes(SessionCall call, uint64_t session) {
    out_.number(static_cast<uint8_t>(call));
    out_.number(session);
  }
  ByteWriter& operator*() { return out_; }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  ByteWriter out_{[this](std::string_view part) { bytes_.append(part); }};
};

/// Whether this process tells others what it does with its sessions.
bool leads(const Model& model);
/// Sends a call to all other processes.
void tell(const Model& model, const CallBytes& call);

/// Tells all other processes of a call; a process that is alone tells nobody. `write` adds what
/// follows the call's head.
template <class Write>
void lead(const Model& model, SessionCall call, uint64_t session, const Write& write) {
  if (!leads(model)) return;
  CallBytes message(call, session);
  write(*message);
  tell(model, message);
}
inline void lead(const Model& model, SessionCall call, uint64_t session) {
  lead(model, call, session, [](ByteWriter&) {});
}

/// Does with sessions of `engine` what rank 0 does with its own, until it does nothing any more.
/// Throws `Error` as `Session` does: for other reasons than rank 0, this process cannot go on then,
/// and neither can the others.
void follow(const Engine& engine);

}  // namespace restkv
