//! Kubernetes as its control planes tell it: commands for kubectl and etcd's gateway over a
//! Transport, and what they answer, typed.

mod api;
mod certificates;
mod member;
mod node;
mod report;

pub use api::{Api, etcd_command, kubectl, members_in_shell};
pub use certificates::{CertificateError, Expiry, expiry, is_ending, pins};
pub use member::{Member, MemberError, MemberState, member_state, members, quorum, removable};
pub use node::{Node, NodeError, nodes};
pub use report::{Part, Report, script};
