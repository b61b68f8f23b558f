//! What the doors need of the directory: who is who, and who signs in.

use crate::accept::Principal;
use mail::{Directory, Surface};
use std::sync::Arc;
use store::directory::DirectoryStore;

/// The directory, as a door sees it.
pub trait People: Send + Sync + 'static {
    /// Everybody and every channel, as of now.
    fn directory(&self) -> Arc<Directory>;

    /// Who signs in with this name and secret at that door, or nobody.
    ///
    /// An unknown name, a wrong secret, and a token that may not be used there give the same answer
    /// in the same time. Answers from memory, without waiting for a disk.
    fn verify(&self, user: &str, secret: &[u8], surface: Surface) -> Option<Principal>;
}

impl People for DirectoryStore {
    fn directory(&self) -> Arc<Directory> {
        Self::directory(self)
    }

    fn verify(&self, user: &str, secret: &[u8], surface: Surface) -> Option<Principal> {
        let sign_in = Self::verify(self, user, secret, surface).ok()?;
        Some(Principal { person: sign_in.person, token: Some(sign_in.token) })
    }
}
