//! Images: pulled for containers ([`pull`]) by those who may have them ([`records`]), imported from archives
//! ([`import`]), made by us ([`pause`]), shown to commands ([`own`]), and removed when the disk is full and
//! nothing uses them ([`collect`]). [`registries`] says what is wrong in the files that pulls go by.

pub(crate) mod archive;
pub(crate) mod collect;
pub(crate) mod content;
pub(crate) mod credentials;
pub(crate) mod import;
pub(crate) mod name;
pub(crate) mod own;
mod pause;
mod pull;
mod records;
pub(crate) mod registries;
mod settle;

pub(crate) use archive::architecture;
pub(crate) use pull::ImageManager;
pub(crate) use records::PullRecords;
