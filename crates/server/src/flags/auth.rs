//! The flags about users: tokens and passwords.

use std::time::Duration;

use super::table::{Flag, Kind, flag};
use super::value::number;

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "auth-token",
        Kind::Text,
        "simple",
        "Specify a v3 authentication token type and its options ('simple' or 'jwt,sign-method=...,pub-key=FILE,priv-key=FILE,ttl=5m').",
        |c, v| {
            v.clone_into(&mut c.auth_token);
            Ok(())
        },
    ),
    flag(
        "auth-token-ttl",
        Kind::Number("uint"),
        "300",
        "The lifetime in seconds of a simple token since its last use.",
        |c, v| {
            c.auth_token_ttl = Duration::from_secs(number(v)?);
            Ok(())
        },
    ),
    flag(
        "bcrypt-cost",
        Kind::Number("uint"),
        "10",
        "Specify the cost / strength of the bcrypt algorithm for hashing auth passwords. Valid values are between 4 and 31.",
        |c, v| {
            c.bcrypt_cost = number(v)?;
            Ok(())
        },
    ),
];
