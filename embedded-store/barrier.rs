//! What sled takes for durable is made so.
//!
//! sled makes room where a page was once its new place is "stable", and by that it means `sync_file_range`: which writes
//! pages out but flushes no disk cache and no metadata. After a power cut both places can be gone, whatever is synced at
//! the end of a checkpoint: by then the old place may have been written over. sled offers no setting for it. It calls the
//! function by its C name, so the program has one of its own by that name that waits for the disk. Nobody else here calls
//! it; a test sees to it that sled does.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

/// How often it was called.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// In the place of the C library's.
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
mod tests {
    #[test]
    fn sled_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        let before = super::count();
        db.insert("a", "b").unwrap();
        db.flush().unwrap();
        assert!(
            super::count() > before,
            "sled calls the C library's function, which does not wait for the disk"
        );
    }
}
