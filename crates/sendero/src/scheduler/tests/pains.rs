//! What people suffer from elsewhere, as histories of a whole gateway behind its doors: the queue of production on a
//! disk in memory, the scheduler, and providers that keep count. Hours cost nothing, and the process can be killed.

pub(super) mod gateway;
mod login;
mod pace;
mod provider;
mod replies;
mod waiting;
