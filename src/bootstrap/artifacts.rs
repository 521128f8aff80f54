//! Where programs and images come from: package repositories, or a directory of this machine.

mod archive;
mod checksums;
mod directory;
pub mod images;
mod list;
pub mod manifest;
pub mod packages;

pub use archive::names as names_in_archive;
pub use checksums::{Checksums, sha256_hex, sha256_of};
pub use directory::{Directory, Stored};
pub use images::Image;
pub use list::{Listing, Row, State, list};
pub use manifest::{Item, Need};

use std::path::PathBuf;

/// Why an artifact cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// The directory, or its list of checksums, cannot be read.
    #[error("{path}: {reason}; see `apiproxy bootstrap artifacts list`")]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A line of the checksums is none.
    #[error("{path}, line {line}: no SHA-256 and file name; make it with `sha256sum`")]
    Checksums {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file that must be there is not.
    #[error("the artifacts lack {path} ({url}); see `apiproxy bootstrap artifacts list`")]
    Missing {
        /// Where it should be, below the directory.
        path: String,
        /// Where it can be had.
        url: String,
    },
    /// Two files could be meant.
    #[error("the artifacts have both {first} and {second}; keep the one that you want")]
    Ambiguous {
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// The list has no checksum for a file.
    #[error("SHA256SUMS does not name {0}; add the checksum that its project publishes")]
    Unlisted(String),
    /// A file is not what the list says.
    #[error("{path} has the checksum {found}, SHA256SUMS says {wanted}; fetch it again")]
    Mismatch {
        /// The file, below the directory.
        path: String,
        /// Its checksum.
        found: String,
        /// What the list says.
        wanted: String,
    },
    /// No archive of images.
    #[error("{path} is no archive of images: {reason}; make it with `ctr images export`")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No repository has packages of this version.
    #[error("no repository has packages of Kubernetes {0}; use `artifacts: {{from: directory}}`")]
    NoPackages(crate::bootstrap::spec::Version),
}
