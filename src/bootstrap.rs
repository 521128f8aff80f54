//! From bare hosts to a highly available cluster: what is wished (`spec`), how hosts are reached
//! (`transport`), what is done in which order (`engine`), what is put on them (`render`), where
//! it comes from (`artifacts`), what hosts need (`needs`) and are (`preflight`), how Kubernetes is
//! asked (`kubernetes`), who is in etcd (`members`), whom certificates are signed by (`pki`), how it is
//! backed up (`backup`) and brought back (`restore`), and what makes it (`steps`). It never imports the data plane.

pub mod artifacts;
pub mod backup;
pub mod engine;
mod hex;
pub mod kubernetes;
pub mod members;
pub mod needs;
pub mod pki;
pub mod preflight;
pub mod render;
pub mod restore;
pub mod scratch;
pub mod spec;
pub mod steps;
pub mod transport;
