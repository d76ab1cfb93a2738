#include "model/communicator.h"

namespace restkv {

Communicator& single_process() {
  class SingleProcess : public Communicator {
    void all_reduce(Matrix<float> /*x*/) override {}
  };
  static SingleProcess only;
  return only;
}

}  // namespace restkv
