//! Images: pulled for containers ([`pull`]), imported from archives ([`import`]), made by us ([`pause`]), and
//! removed when the disk is full and nothing uses them ([`collect`]).

pub(crate) mod archive;
pub(crate) mod collect;
pub(crate) mod content;
pub(crate) mod credentials;
pub(crate) mod import;
pub(crate) mod name;
mod pause;
mod pull;
mod settle;

pub(crate) use archive::architecture;
pub(crate) use pull::ImageManager;
