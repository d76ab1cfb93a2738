#include "sandbox/syscall_filter.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/sandboxes.h"

namespace restkv::eval {
namespace {

using test::expect_pass;
using test::full_sandbox;
using test::reasons;
using test::sandbox_without_namespaces;

#define CALL(name) \
  { #name, SYS_##name }

/// All that a program has no use for but an attacker may.
const std::vector<std::pair<std::string, long>> kForbidden{
    // processes, and what can be done to others without kill
    CALL(clone3), CALL(kill), CALL(tkill), CALL(tgkill), CALL(rt_sigqueueinfo),
    CALL(rt_tgsigqueueinfo), CALL(pidfd_open), CALL(pidfd_send_signal), CALL(pidfd_getfd),
    CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(process_madvise),
    CALL(process_mrelease), CALL(kcmp), CALL(get_robust_list), CALL(move_pages),
    CALL(migrate_pages), CALL(setsid), CALL(setpgid), CALL(setpriority), CALL(ioprio_set),
    CALL(sched_setscheduler), CALL(sched_setparam), CALL(sched_setaffinity), CALL(sched_setattr),
    CALL(execveat), CALL(setuid), CALL(setgid), CALL(setresuid), CALL(setgroups), CALL(capset),
    CALL(seccomp), CALL(personality), CALL(timer_create),
    // memory beside the address space, and of all
    CALL(memfd_create), CALL(memfd_secret), CALL(shmget), CALL(shmat), CALL(msgget), CALL(semget),
    CALL(mq_open), CALL(userfaultfd), CALL(mlock), CALL(mlockall), CALL(vmsplice), CALL(splice),
    CALL(tee), CALL(remap_file_pages), CALL(mbind), CALL(io_setup), CALL(io_uring_setup),
    CALL(io_uring_enter), CALL(io_uring_register),
    // network
    CALL(socket), CALL(connect), CALL(bind), CALL(listen), CALL(accept), CALL(accept4),
    CALL(sendmsg), CALL(sendmmsg), CALL(recvmsg), CALL(setsockopt),
    // attributes of files and watching them; Landlock does not know these
    CALL(fchmod), CALL(fchmodat), CALL(fchown), CALL(fchownat), CALL(utimensat), CALL(setxattr),
    CALL(lsetxattr), CALL(fsetxattr), CALL(removexattr), CALL(inotify_init1),
    CALL(inotify_add_watch), CALL(fanotify_init), CALL(fanotify_mark), CALL(name_to_handle_at),
    CALL(open_by_handle_at), CALL(mknodat), CALL(sync), CALL(syncfs),
    // file trees and namespaces
    CALL(mount), CALL(umount2), CALL(pivot_root), CALL(chroot), CALL(unshare), CALL(setns),
    CALL(open_tree), CALL(move_mount), CALL(fsopen), CALL(fsconfig), CALL(fsmount), CALL(fspick),
    CALL(mount_setattr), CALL(landlock_create_ruleset), CALL(landlock_restrict_self),
    // the machine
    CALL(bpf), CALL(perf_event_open), CALL(keyctl), CALL(add_key), CALL(request_key),
    CALL(init_module), CALL(finit_module), CALL(delete_module), CALL(kexec_load), CALL(reboot),
    CALL(swapon), CALL(swapoff), CALL(settimeofday), CALL(clock_settime), CALL(clock_adjtime),
    CALL(adjtimex), CALL(acct), CALL(quotactl), CALL(syslog), CALL(sethostname), CALL(vhangup)};

/// `errno_of(call, ...)` with calls by number.
constexpr const char* kCalls = R"(
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def errno_of(*arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(a) for a in arguments])
    return ctypes.get_errno() if result < 0 else 0
)";

/// The filter is another one where there are no files of its own.
std::array<const Sandbox*, 2> filtered() {
  return {&full_sandbox(), &sandbox_without_namespaces()};
}

TEST(SyscallFilter, WhatIsNotNeededDoesNotExist) {
  NEEDS(system_calls, full_sandbox());
  std::string program = kCalls;
  program += "there = [name for name, number in [";
  for (const auto& [name, number] : kForbidden) program += fmt::format("('{}', {}),", name, number);
  // Calls of the future, too.
  program +=
      "('new', 600), ('newer', 1000)] if errno_of(number, 0, 0, 0, 0, 0, 0) != 38]\n"
      "assert not there, there";
  for (const Sandbox* sandbox : filtered()) expect_pass(*sandbox, program);
}

TEST(SyscallFilter, ArgumentsDecideWhereACallHasTwoSides) {
  NEEDS(system_calls, full_sandbox());
  std::string program = kCalls;
  program += "wrong = [text for text, number, *arguments in [";
  const auto add = [&](const char* name, long call, std::vector<unsigned long> arguments) {
    program += fmt::format("('{} {}', {}, {}),", name, fmt::join(arguments, " "), call,
                           fmt::join(arguments, ", "));
  };
  // The kernel looks at 32 bits of these: it would take the second ones for the first.
  for (const unsigned long above : {0UL, 1UL << 32U}) {
    for (const int option : {PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_PTRACER,
                             PR_SET_CHILD_SUBREAPER, PR_SET_MM, PR_CAP_AMBIENT}) {
      add("prctl", SYS_prctl, {above | static_cast<unsigned>(option), 0});
    }
    for (const int command :
         {F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ, F_ADD_SEALS}) {
      add("fcntl", SYS_fcntl, {3, above | static_cast<unsigned>(command), 1});
    }
    for (const unsigned long request : {FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCSCTTY, FIOASYNC}) {
      add("ioctl", SYS_ioctl, {3, above | request, 0});
    }
  }
  add("prlimit64", SYS_prlimit64, {1, 7, 0, 0});
  add("socketpair", SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0, 0});
  add("socketpair", SYS_socketpair, {AF_UNIX, SOCK_RAW, 0, 0});
  add("socketpair", SYS_socketpair, {AF_INET, SOCK_STREAM, 0, 0});
  add("sendto", SYS_sendto, {3, 0, 0, 0, 1, 0});
  add("clone", SYS_clone, {SIGCHLD, 0, 0, 0, 0});
  add("clone", SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0});
  program += "] if errno_of(number, *arguments) != 38]\nassert not wrong, wrong";
  for (const Sandbox* sandbox : filtered()) expect_pass(*sandbox, program);
}

#ifdef __x86_64__
TEST(SyscallFilter, OtherTablesOfSystemCallsAreClosed) {
  NEEDS(system_calls, full_sandbox());
  // getpid through int 0x80 (32 bits: number 20) and with the bit of x32.
  const std::string interrupt =
      "import ctypes, mmap\n"
      "code = mmap.mmap(-1, 4096, prot=7)\n"
      "code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"
      "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()";
  const std::string x32 = std::string(kCalls) + "errno_of(0x40000000 | 39)";
  for (const std::string& program : {interrupt, x32}) {
    EXPECT_EQ(test::failure(full_sandbox(), program), "failed: ended by signal 31");  // SIGSYS
  }
}
#endif

TEST(SyscallFilter, OrdinaryProgramsMissNothing) {
  const std::string anywhere = R"(
import array, asyncio, bisect, collections, concurrent.futures, copy, datetime, decimal, fractions
import functools, hashlib, heapq, io, itertools, json, logging, math, mmap, operator, os, pickle
import queue, random, re, secrets, select, signal, sqlite3, statistics, string, struct, sys, textwrap
import threading, time, typing, unittest, uuid, zlib
async def later(value):
    await asyncio.sleep(0.001)
    return value
async def all_of():
    return await asyncio.gather(*(later(i) for i in range(3)))
assert asyncio.run(all_of()) == [0, 1, 2]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(abs, [-1, -2])) == 3
base = sqlite3.connect(':memory:')
assert base.execute('select 1 + 1').fetchone() == (2,)
mapped = mmap.mmap(-1, 8192)
mapped.write(b'x'); mapped.resize(16384)
rung = []
signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001)
time.sleep(0.02)
assert rung
r, w = os.pipe()
assert select.select([r], [w], [], 0.1) == ([], [w], [])
assert len(secrets.token_bytes(8)) == 8 and uuid.uuid4() != uuid.uuid4()
os.cpu_count(), os.sched_getaffinity(0), os.uname(), time.process_time(), os.times()
assert os.path.exists('/usr') and not sys.stdin.isatty() and len(os.listdir('/usr')) > 1
)";
  const std::string with_files = R"(
import os, pathlib, posix
path = pathlib.Path('a', 'b')
path.parent.mkdir()
path.write_text('x' * 1000)
with open(path, 'a+') as file:
    file.truncate(10); file.seek(0); assert file.read() == 'x' * 10
assert path.stat().st_size == 10 and path.exists()
posix.rename(path, 'c'); posix.symlink('c', 'd'); posix.link('c', 'e'); posix.unlink('c')
assert open('e').read() == 'x' * 10
posix.rmdir('a')
print('z', file=open(os.devnull, 'w'))
)";
  for (const Sandbox* sandbox : filtered()) {
    expect_pass(*sandbox, anywhere);
    if (sandbox->layers().own_root) expect_pass(*sandbox, with_files);
  }
}

}  // namespace
}  // namespace restkv::eval
