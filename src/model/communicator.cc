#include "model/communicator.h"

#include <stdexcept>

namespace restkv {

Communicator& single_process() {
  class SingleProcess : public Communicator {
    [[nodiscard]] size_t rank() const override { return 0; }
    [[nodiscard]] size_t size() const override { return 1; }
    [[nodiscard]] size_t neighbours() const override { return 1; }
    void all_reduce(Matrix<float> /*x*/) override {}
    void gather_columns(Matrix<float> /*x*/) override {}
    void send(size_t /*to*/, std::string_view /*bytes*/) override { nobody(); }
    std::optional<Message> receive() override { return std::nullopt; }
    Message wait() override { nobody(); }
    [[nodiscard]] Traffic traffic() const override { return {}; }
    [[noreturn]] static void nobody() { throw std::logic_error("there is no other process"); }
  };
  static SingleProcess only;
  return only;
}

}  // namespace restkv
