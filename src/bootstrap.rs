//! From bare hosts to a highly available cluster: what is wished (`spec`), how hosts are reached
//! (`transport`), what is done in which order (`engine`), what is done (`steps`). It never imports the data plane.

pub mod engine;
pub mod pki;
pub mod spec;
pub mod steps;
pub mod transport;
