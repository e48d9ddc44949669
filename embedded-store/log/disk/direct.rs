//! Appending past the page cache.
//!
//! Through the cache a record costs a fresh page, a copy into it and the search for dirty pages at the sync:
//! several times what the disk's own work costs. And a sync after the first write to a reserved block also
//! waits for the file system's journal, which notes that the block is in use now. So appends go to the disk
//! in whole blocks, of which the last is written again with the next append, and small ones write zeros a
//! while ahead: the journal is needed once for all that fit there. Large appends need it seldom enough.
//!
//! Not every file system can do this: [`Direct::open`] says so, and a write that is not possible this way
//! says so, too.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

/// Offsets, lengths and addresses are multiples of it, whatever the disk asks for.
const BLOCK: usize = 4096;
/// Bytes written at a time.
const ROOM: usize = 256 << 10;
/// Appends of more than this do without zeros ahead.
const SMALL: usize = 64 << 10;
const ZEROS: usize = 256 << 10;

#[repr(align(4096))]
struct Zeros([u8; ZEROS]);

static NOTHING: Zeros = Zeros([0; ZEROS]);

pub(super) struct Direct {
    file: File,
    /// Room for [`ROOM`] bytes from an address that suits, at `skip`. Begins with the block that `end` lies
    /// in.
    memory: Vec<u8>,
    skip: usize,
    /// Where the last append ended; `None` if the block that it lies in is not in memory.
    end: Option<u64>,
    /// Up to here blocks are known to be in use.
    zeroed: u64,
    /// Up to here there is reserved space.
    reserved: u64,
}

impl Direct {
    /// `None` if the file cannot be opened like this: it can be written the ordinary way all the same.
    pub(super) fn open(path: &Path) -> Option<Direct> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path).ok()?;
        let reserved = file.metadata().ok()?.len();
        let memory = vec![0; ROOM + BLOCK];
        let skip = memory.as_ptr().align_offset(BLOCK);
        (skip < BLOCK).then_some(Direct { file, memory, skip, end: None, zeroed: 0, reserved })
    }

    /// The file is changed by other means.
    pub(super) fn forget(&mut self) {
        (self.end, self.zeroed, self.reserved) = (None, 0, 0);
    }

    /// Space is reserved up to here.
    pub(super) fn reserve(&mut self, length: u64) {
        self.reserved = self.reserved.max(length);
    }

    /// Writes bytes at the end, behind which nothing counts. `file` is the same file, for reading.
    pub(super) fn append(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let block = BLOCK as u64;
        let mut head = (offset % block) as usize;
        let mut at = offset - head as u64;
        let room = &mut self.memory[self.skip..self.skip + ROOM];
        if self.end.take() != Some(offset) {
            file.read_exact_at(&mut room[..head], at)?;
        }
        let mut rest = bytes;
        loop {
            let (now, later) = rest.split_at(rest.len().min(ROOM - head));
            let filled = head + now.len();
            let whole = filled.next_multiple_of(BLOCK);
            room[head..filled].copy_from_slice(now);
            room[filled..whole].fill(0);
            self.file.write_all_at(&room[..whole], at)?;
            let tail = filled - filled % BLOCK;
            at += tail as u64;
            rest = later;
            if rest.is_empty() {
                room.copy_within(tail..whole, 0);
                self.ahead(at + (whole - tail) as u64, bytes.len());
                self.end = Some(offset + bytes.len() as u64);
                return Ok(());
            }
            head = 0;
        }
    }

    /// Marks the blocks from `next` on as used, as far as space is reserved.
    fn ahead(&mut self, next: u64, size: usize) {
        if next <= self.zeroed {
            return;
        }
        self.zeroed = next;
        let left = (self.reserved - self.reserved % BLOCK as u64).saturating_sub(next);
        let zeros = usize::try_from(left).unwrap_or(ZEROS).min(ZEROS);
        // This only saves time. A real failure shows at the next append.
        if size <= SMALL && zeros > 0 && self.file.write_all_at(&NOTHING.0[..zeros], next).is_ok() {
            self.zeroed = next + zeros as u64;
        }
    }
}

/// Whether a file or a disk cannot be written to like this.
pub(super) fn is_unable(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}
