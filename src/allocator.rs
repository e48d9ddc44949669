//! The allocator of the whole process: jemalloc, because it gives memory back by itself, a while after a
//! burst and without being asked (docs/decisions/0009-allocator.md).
//!
//! Absent: profiling; a build for it takes the feature of that name.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A thread of jemalloc's own returns pages that were free for about a second, and sleeps while there are
/// none: otherwise only threads that allocate do so, and an idle process would keep what a burst has left.
/// Read by jemalloc under this name; the environment's `_RJEM_MALLOC_CONF` comes on top.
// SAFETY: jemalloc declares it as a pointer to a string that ends in a zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 60] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
