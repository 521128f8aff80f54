//! apiproxy: a node-local, health-checking TCP load balancer for kube-apiservers.
//!
//! # The map
//!
//! ```text
//! main -> cli -> app -> proxy      accepts, connects, relays, closes: the data threads
//!                    -> health     probes and judges: the control thread
//!                    -> discovery  finds backends:     the control thread
//!                    -> admin      metrics and status: the control thread
//!                    -> events     what happened, why: the control thread
//!                    -> control    commands, handover: the control thread
//! ```
//!
//! The components meet in one place, the store of [`model`]: an immutable [`model::Snapshot`] of all
//! backends and their states, replaced as a whole by a single writer and read without a lock. The
//! data path tells the health component what it notices through [`model::Hints`], which never decide
//! anything: they start probes.
//!
//! What decides is pure: [`balance::pick`] (who takes a client), [`rebalance`] (who moves, and when),
//! [`health::Machine`] (what state a backend is in), and inside [`proxy`] the relay's directions and
//! the sentence on the connections of a dead backend. Clock, randomness and the results of I/O come
//! in as arguments.
//!
//! Imports point down: `cli -> app -> components -> {config, model} -> leaves` ([`drain`],
//! [`metrics`], [`net`], [`raw`], [`seats`], [`signal`], [`systemd`], [`throttle`], [`tls`],
//! [`watch`]), with `proxy -> {balance, rebalance}` sideways. [`bootstrap`] and the command line share
//! [`manifest`].
//! `tests/layering.rs` holds the table and fails when it is broken.

pub mod admin;
pub mod app;
pub mod balance;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod discovery;
pub mod drain;
pub mod dropin;
pub mod events;
pub mod hardening;
pub mod health;
pub mod image;
pub mod manifest;
pub mod metrics;
pub mod model;
pub mod net;
pub mod proxy;
pub mod raw;
pub mod rebalance;
pub mod seats;
pub mod signal;
pub mod systemd;
pub mod throttle;
pub mod tls;
pub mod watch;
