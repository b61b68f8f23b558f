//! The HTTP side: the JSON API under `/api/v1`, health and metrics, and the connections they come by.
//!
//! What it needs from the rest of the program stands in [`gateway::Gateway`]. It takes messages by
//! the same way as every other door, and decides nothing about them.

mod api;
pub mod clocks;
pub mod gateway;
mod params;
pub mod problem;
pub mod serve;
mod show;
pub mod surface;
mod turns;
pub mod view;
mod viewer;
pub mod waiting;

pub use gateway::{About, ApplyRequest, Gateway, Principal, Receipt, Submission};
pub use problem::Problem;
pub use surface::Surface;
