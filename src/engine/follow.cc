#include "engine/follow.h"

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "engine/snapshot.h"
#include "model/weights.h"

namespace restkv {
namespace {

struct Followed {
  Session session;
  std::optional<Session::Prompt> prompt = std::nullopt;
};

class Follower {
 public:
  explicit Follower(const Engine& engine) : engine_(engine) {}

  /// False: there will be no other call.
  bool obey(const std::string& bytes) {
    ByteReader in("a call of rank 0", bytes);
    const auto call = static_cast<SessionCall>(in.number<uint8_t>());
    const auto number = in.number<uint64_t>();
    switch (call) {
      case SessionCall::kStop:
        return false;
      case SessionCall::kBegin:
        sessions_.emplace(number, Followed{Session(engine_, read_session_options(in))});
        break;
      case SessionCall::kCopy:
        sessions_.emplace(number, Followed{at(in.number<uint64_t>()).session.fork()});
        break;
      case SessionCall::kEnd:
        sessions_.erase(number);
        break;
      case SessionCall::kPrompt: {
        std::vector<int32_t> tokens;
        in.array(tokens);
        PromptLogits hears;
        if (in.number<uint8_t>() != 0) hears = [](size_t, Matrix<const float>) {};
        at(number).prompt.emplace(at(number).session.begin(tokens, std::move(hears)));
        break;
      }
      case SessionCall::kStep:
        at(number).prompt.value().step(static_cast<Stride>(in.number<uint8_t>()));
        break;
      case SessionCall::kEndPrompt:
        at(number).prompt.reset();
        break;
      case SessionCall::kTokens:
        append(in);
        break;
      case SessionCall::kCompress:
        at(number).session.compress();
        break;
      case SessionCall::kBudget:
        at(number).session.set_budget(in.number<int32_t>());
        break;
      case SessionCall::kReserve:
        at(number).session.reserve(in.number<uint64_t>());
        break;
    }
    return true;
  }

 private:
  Followed& at(uint64_t number) { return sessions_.at(number); }

  void append(ByteReader& in) {
    std::vector<uint64_t> numbers;
    std::vector<int32_t> tokens;
    in.array(numbers);
    in.array(tokens);
    std::vector<Session*> sessions;
    for (const uint64_t n : numbers) sessions.push_back(&at(n).session);
    Session::append_together(sessions, tokens);
  }

  const Engine& engine_;
  std::map<uint64_t, Followed> sessions_;
};

}  // namespace

bool leads(const Model& model) {
  const Communicator& all = *model.weights().communicator;
  return all.size() > 1 && all.rank() == 0;
}

void tell(const Model& model, const CallBytes& call) {
  Communicator& all = *model.weights().communicator;
  for (size_t rank = 1; rank < all.size(); ++rank) all.send(rank, call.bytes());
}

void follow(const Engine& engine) {
  Follower follower(engine);
  Communicator& all = *engine.model().weights().communicator;
  while (follower.obey(all.wait().bytes)) {
  }
}

}  // namespace restkv
