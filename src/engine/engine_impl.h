#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/sparse_prefill.h"
#include "engine/workspace.h"
#include "restkv/engine.h"

namespace restkv {

/// See `Engine`. Sessions share its ownership and lease a workspace for every call.
struct Engine::Impl {
  Impl(const Model& m, std::shared_ptr<ThreadPool> pool)
      : model(m), threads(std::move(pool)), sparse(m.config()) {
    workspaces_.push_back(std::make_unique<Workspace>(m));
  }

  /// Exclusive use of a workspace, and use of the engine's threads, while it exists.
  class Lease {
   public:
    explicit Lease(Impl& engine) : engine_(engine), workspace_(engine.take()) {
      if (engine.threads != nullptr) threads_.emplace(*engine.threads);
    }
    ~Lease() { engine_.give_back(std::move(workspace_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    Workspace& operator*() const { return *workspace_; }

   private:
    Impl& engine_;
    std::unique_ptr<Workspace> workspace_;
    std::optional<UseThreads> threads_;
  };

  const Model& model;
  std::shared_ptr<ThreadPool> threads;
  SparsePrefill sparse;  ///< For `Engine::prefill`; every session has its own.

 private:
  std::unique_ptr<Workspace> take() {
    const std::scoped_lock lock(mutex_);
    if (workspaces_.empty()) return std::make_unique<Workspace>(model);
    std::unique_ptr<Workspace> workspace = std::move(workspaces_.back());
    workspaces_.pop_back();
    return workspace;
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    const std::scoped_lock lock(mutex_);
    workspaces_.push_back(std::move(workspace));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  ///< Idle ones.
};

}  // namespace restkv
