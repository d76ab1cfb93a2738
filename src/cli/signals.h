#pragma once

namespace restkv::cli {

/// To be called first in `main`: no thread that computes may ever run a signal handler. oneDNN's
/// matrix kernels point the stack pointer into heap memory while they work, and the frame of a
/// handler would overwrite what lies below. One thread therefore waits for Ctrl-C and SIGTERM on
/// behalf of all; both end the process. Where no thread can be had, the system ends the process,
/// and that is said. A reader that has gone away and a limit on the size of files (SIGPIPE,
/// SIGXFSZ) show as write errors.
void take_signals();

/// From here on the first Ctrl-C or SIGTERM sets a flag, cleared now, instead of ending the
/// process. To be called when work begins that looks at the flag: until then nothing would answer.
void catch_interrupts();
/// From here on Ctrl-C does no more than to set the flag, cleared now, however often it is pressed:
/// for one who talks at a terminal and has a conversation to lose. SIGTERM ends the process. Throws
/// `Error` (kUnsupported) if there is no thread that waits for signals.
void hold_interrupts();
/// From here on they end the process again: nobody looks at the flag any more. One that came before
/// has set it.
void release_interrupts();
bool interrupted();

/// Ends the process as the signal would have done without this program's doing.
void end_by(int signal);

}  // namespace restkv::cli
