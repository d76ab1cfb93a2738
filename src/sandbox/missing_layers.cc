#include "sandbox/missing_layers.h"

#include <fmt/format.h>

namespace restkv::eval {
namespace {

/// What code can do with files without a separate file tree.
std::string_view reach_of_files(const SandboxLayers& layers) {
  if (layers.landlock && layers.system_calls) {
    return "code has no place to write files, and can ask which files there are";
  }
  if (layers.landlock)
    return "code can ask which files there are, and change their modes and dates";
  if (layers.system_calls) {
    return layers.namespaces ? "code can read what this user can"
                             : "code can read what this user can, other processes' memory included";
  }
  return "code can read and write what this user can";
}

std::string_view reach_of_processes(const SandboxLayers& layers) {
  if (layers.system_calls) {
    return "only the filter of system calls keeps code from the network and other processes";
  }
  return layers.landlock ? "code can use the network and make processes"
                         : "code can use the network, make processes that stay, and signal and "
                           "trace other processes of this user";
}

}  // namespace

bool& layer_flag(SandboxLayers& layers, Layer layer) {
  switch (layer) {
    case Layer::kOwnRoot:
      return layers.own_root;
    case Layer::kLandlock:
      return layers.landlock;
    case Layer::kSystemCalls:
      return layers.system_calls;
    default:
      return layers.namespaces;
  }
}

Layer first_layer(SandboxLayers layers) {
  for (const Layer layer :
       {Layer::kOwnRoot, Layer::kLandlock, Layer::kSystemCalls, Layer::kNamespaces}) {
    if (layer_flag(layers, layer)) return layer;
  }
  return Layer::kNone;
}

std::vector<MissingLayer> missing_layers(const SandboxLayers& layers, const LayerReasons& reasons,
                                         bool stays_root) {
  std::vector<MissingLayer> missing;
  const auto add = [&](std::string_view what, Layer layer, std::string_view reach,
                       std::string_view remedy) {
    const std::string& reason = reasons[static_cast<size_t>(layer)];
    missing.push_back(
        {fmt::format("no {} ({}): {}", what, reason.empty() ? "not wanted" : reason, reach),
         std::string(remedy)});
  };
  if (stays_root) {
    missing.push_back({"no other user (root without the right to become one): code runs as root",
                       "run restkv as an ordinary user, or with CAP_SETUID and CAP_SETGID"});
  }
  if (!layers.own_root) {
    const bool because =
        !layers.namespaces && reasons[static_cast<size_t>(Layer::kOwnRoot)].empty();
    add("file tree of its own", because ? Layer::kNamespaces : Layer::kOwnRoot,
        reach_of_files(layers),
        "permit mounts in user namespaces (Linux 5.12 or newer; sysctl "
        "kernel.apparmor_restrict_unprivileged_userns=0 where AppArmor forbids them)");
  }
  if (!layers.namespaces) {
    add("namespaces", Layer::kNamespaces, reach_of_processes(layers),
        "permit user namespaces (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone=1; Docker: --security-opt seccomp=unconfined)");
  }
  if (!layers.landlock) {
    add("Landlock", Layer::kLandlock,
        layers.own_root ? "only the file tree keeps code from other files"
                        : "nothing hides the files of this user",
        "boot Linux 5.13 or newer with landlock in its lsm= parameter");
  }
  if (!layers.system_calls) {
    add("filter of system calls", Layer::kSystemCalls, "code meets the whole kernel",
        "use a kernel with seccomp filters (CONFIG_SECCOMP_FILTER)");
  }
  return missing;
}

}  // namespace restkv::eval
