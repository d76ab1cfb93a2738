#pragma once

#include <cstddef>

namespace restkv {

/// Requests large pages for fresh memory that will be written completely; streaming through it then
/// has fewer TLB misses. Does nothing for less than two large pages or without system support. Not
/// for memory that delays the first token: a virtual machine that returns free memory to its host
/// gets large pages at 0.7 GB/s.
void prefer_large_pages(void* memory, size_t bytes);

/// Maps all pages of fresh memory that will be written completely, in half the time of page faults.
/// Does nothing for small memory or without system support.
void populate_pages(void* memory, size_t bytes);

/// Releases the memory of whole pages of a mapped file; they are read again when touched. Must not
/// be called for other memory, whose content would be lost. Does nothing without system support.
void release_pages(const void* file, size_t bytes);

}  // namespace restkv
