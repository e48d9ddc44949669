//! Makes sled's idea of "stable" reach the disk.
//!
//! sled reuses the place of a page once the page's new copy is "stable". By that it means `sync_file_range`,
//! which starts writing pages but flushes neither the disk's cache nor metadata. After a power cut both
//! copies can be gone, whatever is synced at the end of a checkpoint, because by then the old copy may have
//! been overwritten. sled has no setting for this. It calls the function by its C name, so this program
//! defines a function of that name which waits for the disk. Nothing else here calls it, and a test checks
//! that sled does.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

/// Number of calls.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Replaces the C library's function.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(
    file: c_int,
    _offset: libc::off64_t,
    _length: libc::off64_t,
    _flags: libc::c_uint,
) -> c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: it takes a number, which it checks itself.
    unsafe { libc::fdatasync(file) }
}

/// How often sled has waited for the disk.
pub(crate) fn count() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
