//! Images on disk: blobs by digest, unpacked layers by chain id, the index of names; archives in and out.
//!
//! Layout below the store's folder (all mode 0700):
//!
//! ```text
//! index.json            every image and every name, versioned, replaced whole (naru_fs::durable)
//! blobs/sha256/<hex>    configurations, manifests and layers, as received
//! layers/<chain hex>/   layer.json and diff/, an overlayfs lower folder with true ids
//! ingest/<name>/blob    a download in progress, kept for a day when it is broken off
//! unpack/<random>/      a layer that is being unpacked, made anew after a crash
//! trash/                what is being removed, by a thread of its own
//! lock                  held while a store is open
//! ```
//!
//! A layer is trusted only while an image in the index, or a container, holds it: blobs and layers are written first,
//! then one syncfs(2), then the index. At start what nothing holds is removed, and blobs that nothing holds go back to
//! `ingest/`, where the next download of the same digest takes them up and checks them again.
//!
//! Everything here blocks, and nothing here knows a network: callers push bytes in and pull bytes out.

mod archive;
mod blob;
mod check;
mod commit;
mod decompress;
mod diff;
mod extract;
mod hash;
mod image;
mod index;
mod ingest;
mod layer;
mod lower;
mod pack;
mod platforms;
mod policy;
pub mod spec;
mod store;
pub mod tar;
mod trash;
mod tree;
mod unpack;
mod usage;

pub use archive::{LoadEvent, SaveTarget};
pub use check::{Checked, Problem};
pub use decompress::{Compression, Decompressor, Output};
pub use diff::{Change, ChangeKind, diff};

pub use hash::{chain_id, digest_of};
pub use image::{Image, ImageLayer, Source};
pub use ingest::{LayerIngest, UnpackedLayer};
pub use layer::Layer;
pub use lower::lower_folders;

pub use pack::{pack_layer, pack_path, pack_path_with, pack_tree};
pub use platforms::{ImageIndex, Member};
pub use policy::{Choice, ImagePolicy};
pub use store::{Catalogue, Lease, NewImage, NewNames, Removed, Renamed, Store};
pub use unpack::{IdsOn, MapIds, Owner, Rename, Unpack};
pub use usage::{ImageUsage, StoreUsage};
