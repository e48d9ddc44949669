//! Images: pulled for containers ([`pull`]), imported from archives ([`import`]), made by us ([`pause`]),
//! shown to commands ([`own`]), and removed when the disk is full and nothing uses them ([`collect`]).

pub(crate) mod archive;
pub(crate) mod collect;
pub(crate) mod content;
pub(crate) mod credentials;
pub(crate) mod import;
pub(crate) mod name;
pub(crate) mod own;
mod pause;
mod pull;
mod settle;

pub(crate) use archive::architecture;
pub(crate) use pull::ImageManager;
