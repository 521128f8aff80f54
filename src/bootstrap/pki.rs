//! Certificates: an authority and what it issues, how those that are there are read, and where the
//! authority's key lives.

mod authority;
mod certificate;
mod profile;
mod store;
#[cfg(test)]
mod tests;

pub use authority::{Authority, BACKDATED, CA_VALIDITY, Issued, LEAF_VALIDITY};
pub use certificate::Certificate;
pub use profile::{Name, Profile, Usage};
pub use store::Store;

/// Why a certificate could not be read, issued or kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// It is no certificate that we can read.
    #[error("not a certificate in PEM: {0}")]
    Unreadable(String),
    /// The authority's key is of no use.
    #[error("the key of {authority} is of no use: {reason}")]
    Key {
        /// The authority's common name, or its file.
        authority: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be signed.
    #[error("cannot issue a certificate for {subject}: {reason}")]
    Issue {
        /// The common name.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of the authority.
    #[error("{path}: {reason}; {remedy}")]
    File {
        /// The file.
        path: String,
        /// What happened.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
}
