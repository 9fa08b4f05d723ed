//! What can go wrong, in etcd's terms.

use std::fmt;

use api::status::{self, Status};
use bytes::Bytes;

/// The result of what this crate does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was refused, or failed.
///
/// Most are answers that etcd gives too, with its very words: [`status`](Self::status) names them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Enabling needs a user called root.
    RootUserNotExist,
    /// Enabling needs the user root to hold the role root.
    RootRoleNotExist,
    /// A user of this name exists.
    UserAlreadyExist,
    /// No name was given, or nobody asked.
    UserEmpty,
    /// There is no such user.
    UserNotFound,
    /// A role of this name exists.
    RoleAlreadyExist,
    /// There is no such role.
    RoleNotFound,
    /// No role was named.
    RoleEmpty,
    /// The name, the password or both are wrong. It is not said which.
    AuthFailed,
    /// The user has no password to be checked; or, as in etcd, a hash in a request is not base64.
    NoPasswordUser,
    /// The request to grant a permission had none.
    PermissionNotGiven,
    /// The user may not do this.
    PermissionDenied,
    /// The user does not hold the role.
    RoleNotGranted,
    /// The role has no such permission.
    PermissionNotGranted,
    /// Authentication is off.
    AuthNotEnabled,
    /// The token is unknown, expired, forged or malformed. It is not said which.
    InvalidAuthToken,
    /// The change makes no sense, or would lock everybody out.
    InvalidAuthMgmt,
    /// Users or roles have changed since the identity was established.
    AuthOldRevision,
    /// bcrypt takes 72 bytes.
    PasswordTooLong,
    /// There is only a public key, so tokens can be verified but not issued.
    VerifyOnlyKey,
    /// So many passwords wait to be hashed that one more would wait too long.
    TooManyRequests,
    /// The token options make no sense.
    InvalidAuthOptions(
        /// What is wrong with them; never a secret.
        String,
    ),
    /// The operating system gives no random numbers, or a key refuses to sign.
    Crypto(
        /// What failed.
        &'static str,
    ),
    /// A stored record makes no sense.
    Corrupt {
        /// The record's key.
        key: Bytes,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The backend failed.
    Backend(backend::Error),
}

impl Error {
    /// What a client is told, word for word; `None` for what is not the client's business.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        Some(match self {
            Self::RootUserNotExist => status::ROOT_USER_NOT_EXIST,
            Self::RootRoleNotExist => status::ROOT_ROLE_NOT_EXIST,
            Self::UserAlreadyExist => status::USER_ALREADY_EXIST,
            Self::UserEmpty => status::USER_EMPTY,
            Self::UserNotFound => status::USER_NOT_FOUND,
            Self::RoleAlreadyExist => status::ROLE_ALREADY_EXIST,
            Self::RoleNotFound => status::ROLE_NOT_FOUND,
            Self::RoleEmpty => status::ROLE_EMPTY,
            Self::AuthFailed => status::AUTH_FAILED,
            Self::NoPasswordUser => status::AUTH_NO_PASSWORD_USER,
            Self::PermissionNotGiven => status::PERMISSION_NOT_GIVEN,
            Self::PermissionDenied => status::PERMISSION_DENIED,
            Self::RoleNotGranted => status::ROLE_NOT_GRANTED,
            Self::PermissionNotGranted => status::PERMISSION_NOT_GRANTED,
            Self::AuthNotEnabled => status::AUTH_NOT_ENABLED,
            Self::InvalidAuthToken => status::INVALID_AUTH_TOKEN,
            Self::InvalidAuthMgmt => status::INVALID_AUTH_MGMT,
            Self::AuthOldRevision => status::AUTH_OLD_REVISION,
            Self::PasswordTooLong => status::AUTH_PASSWORD_TOO_LONG,
            Self::VerifyOnlyKey => status::AUTH_VERIFY_ONLY,
            Self::TooManyRequests => status::REQUEST_TOO_MANY_REQUESTS,
            Self::InvalidAuthOptions(_) | Self::Crypto(_) | Self::Corrupt { .. } | Self::Backend(_) => {
                return None;
            }
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidAuthOptions(detail) => write!(f, "auth: invalid auth options: {detail}"),
            Self::Crypto(operation) => write!(f, "cannot {operation}"),
            Self::Corrupt { key, reason } => write!(f, "corrupt auth record {key:?}: {reason}"),
            Self::Backend(error) => error.fmt(f),
            _ => self.status().map_or(Ok(()), |status| f.write_str(status.text())),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Backend(error) = self { error.source() } else { None }
    }
}

impl From<backend::Error> for Error {
    fn from(error: backend::Error) -> Self {
        Self::Backend(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_etcds_words() {
        assert_eq!(Error::PermissionDenied.to_string(), "etcdserver: permission denied");
        assert_eq!(Error::PasswordTooLong.to_string(), "bcrypt: password length exceeds 72 bytes");
        let corrupt = Error::Corrupt { key: Bytes::from_static(b"u"), reason: "no user" };
        assert_eq!(
            (corrupt.status(), corrupt.to_string().as_str()),
            (None, "corrupt auth record b\"u\": no user")
        );
    }
}
