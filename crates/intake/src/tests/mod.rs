#![allow(clippy::unwrap_used)]
//! The doors as their users meet them.

mod accepting;
mod capped;
mod directory;
mod flood;
mod large;
mod listed;
mod outside;
mod sockets;
mod waiting;
mod world;
