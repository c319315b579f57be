/* Train an artifact from C++: memory that frees itself, errors as exceptions.
 *
 *   c++ train.cpp -Inet/runtime net/libpock_model.so -Wl,-rpath,'$ORIGIN' -o train && ./train net/weights.safetensors
 */
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "pock.h"

namespace {

struct Release {
  void operator()(void *memory) const { ::operator delete(memory, std::align_val_t{POCK_ALIGNMENT}); }
};
using Memory = std::unique_ptr<void, Release>;

Memory aligned(std::size_t bytes) { return Memory(::operator new(bytes, std::align_val_t{POCK_ALIGNMENT})); }

class Model {
 public:
  Model(const std::string &weights, int threads)
      : session_memory_(aligned(pock_session_bytes())),
        state_(aligned(pock_state_bytes())),
        arena_(aligned(pock_arena_bytes(threads))) {
    pock_setup setup{};
    setup.abi = POCK_ABI;
    setup.threads = threads;
    setup.session_bytes = pock_session_bytes();
    setup.state = state_.get();
    setup.state_bytes = pock_state_bytes();
    setup.arena = arena_.get();
    setup.arena_bytes = pock_arena_bytes(threads);
    check(pock_open(session(), weights.c_str(), &setup));
  }
  ~Model() { pock_shutdown(session()); }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  float step(float learning_rate) {
    float loss = 0;
    check(pock_train_step(session(), learning_rate, &loss));
    return loss;
  }

  /* Made-up samples: a program of your own copies pictures and labels here. */
  void fill() {
    for (int i = 0; i < pock_tensor_count(); i++) {
      pock_tensor_about about;
      check(pock_describe_tensor(session(), i, &about));
      if (about.role != POCK_INPUT && about.role != POCK_LABEL) continue;
      void *at = pock_tensor(session(), about.name, nullptr);
      for (std::size_t k = 0; k < about.bytes / 4; k++) {
        if (about.dtype == POCK_FLOAT32) static_cast<float *>(at)[k] = static_cast<float>(k % 5) - 2;
        if (about.dtype == POCK_INT32) static_cast<std::int32_t *>(at)[k] = static_cast<std::int32_t>(k % 3);
      }
    }
  }

 private:
  pock_session *session() { return static_cast<pock_session *>(session_memory_.get()); }
  void check(int code) {
    if (code != POCK_OK) throw std::runtime_error(pock_last_error(session()));
  }
  Memory session_memory_, state_, arena_;
};

}  // namespace

int main(int count, char **words) {
  if (count != 2) return 2;
  try {
    Model model(words[1], 2);
    for (int step = 0; step < 5; step++) {
      model.fill();
      std::printf("%.9g\n", static_cast<double>(model.step(0.01f)));
    }
  } catch (const std::exception &error) {
    std::fprintf(stderr, "train: %s\n", error.what());
    return 1;
  }
  return 0;
}
