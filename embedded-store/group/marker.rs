//! The file that says to which group a store's directory belongs. Without it the store is alone, and all of
//! its log is committed; with it nothing counts before the group has said so.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const NAME: &str = "GROUP";
const FIRST_LINE: &str = "minik8s group 1";

/// A member of a group, as its directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store that the group began with.
    pub cluster: u64,
    pub member: u64,
}

/// The membership of a store's directory; `None` for one that is alone, or not there.
pub fn identity(dir: &Path) -> io::Result<Option<Identity>> {
    let text = match fs::read_to_string(dir.join(NAME)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let parse = || {
        let mut lines = text.lines();
        let first = lines.next()?;
        let mut number = |name: &str| {
            let (key, value) = lines.next()?.split_once(' ')?;
            u64::from_str_radix((key == name).then_some(value)?, 16).ok()
        };
        let (cluster, member) = (number("cluster")?, number("member")?);
        (first == FIRST_LINE).then_some(Identity { cluster, member })
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("the file {NAME} cannot be read"));
    parse().ok_or_else(damaged).map(Some)
}

/// Makes the directory a member's. It is on disk afterwards.
pub(crate) fn write(dir: &Path, identity: Identity) -> io::Result<()> {
    let part = dir.join(format!("{NAME}.part"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let Identity { cluster, member } = identity;
    writeln!(file, "{FIRST_LINE}\ncluster {cluster:016x}\nmember {member:016x}")?;
    file.sync_all()?;
    fs::rename(&part, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}
