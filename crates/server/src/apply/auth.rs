//! Users, roles and permissions in the replicated state, and the tokens that every member is to know.

use ::auth::{Error, Identity};
use api::internal::auth_change::Change;
use api::internal::request::Command;
use api::internal::{AuthTokenAssign, Batch, Request};
use api::status;
use mvcc::WriteTxn;

use super::{Answer, Output};
use crate::member::Shared;

/// Whether anybody may do more or less after this entry. Such entries hold nothing else, see `proposal.rs`.
pub(super) fn changes_rules(entry: &Batch) -> bool {
    let change = |request: &Request| match &request.command {
        Some(Command::AuthChange(request)) => !matches!(request.change, Some(Change::TokenAssign(_))),
        _ => false,
    };
    entry.requests.iter().any(change)
}

/// Rules change at once, before the batch is committed. They are never older than what a reader sees, which asks them again after it
/// has read; nor is what it sees older, because everything before the entry has been committed by then.
pub(super) fn apply(
    shared: &Shared,
    txn: &mut WriteTxn<'_>,
    index: u64,
    identity: Option<&Identity>,
    change: &Change,
) -> mvcc::Result<Answer> {
    let store = &shared.users.store;
    if let Change::TokenAssign(request) = change {
        return Ok(assign(shared, index, request));
    }
    if let Err(refusal) = store.rules().check_root(identity) {
        return refused(refusal);
    }
    let (enabled, tx) = (store.rules().enabled(), txn.tx());
    let changed = match change {
        Change::Enable(_) => store.enable(tx),
        Change::Disable(_) => store.disable(tx),
        Change::UserAdd(request) => store.user_add(tx, request),
        Change::UserDelete(request) => store.user_delete(tx, request),
        Change::UserChangePassword(request) => store.user_change_password(tx, request),
        Change::UserGrantRole(request) => store.user_grant_role(tx, request),
        Change::UserRevokeRole(request) => store.user_revoke_role(tx, request),
        Change::RoleAdd(request) => store.role_add(tx, request),
        Change::RoleDelete(request) => store.role_delete(tx, request),
        Change::RoleGrantPermission(request) => store.role_grant_permission(tx, request),
        Change::RoleRevokePermission(request) => store.role_revoke_permission(tx, request),
        Change::TokenAssign(_) => Ok(()),
    };
    if let Err(refusal) = changed {
        return refused(refusal);
    }
    match change {
        Change::UserDelete(request) => shared.users.tokens.drop_user(&request.name),
        Change::UserChangePassword(request) => shared.users.tokens.drop_user(&request.name),
        Change::Disable(_) if enabled => {
            shared.users.tokens.drop_all();
            tracing::info!("disabled authentication");
        }
        Change::Enable(_) if !enabled => tracing::info!("enabled authentication"),
        _ => {}
    }
    Ok(Ok(Output::Revision(txn.revision())))
}

/// The password was checked by the member that proposed this. The user may have gone since.
fn assign(shared: &Shared, index: u64, request: &AuthTokenAssign) -> Answer {
    let rules = shared.users.rules();
    if !rules.enabled() {
        return Err(status::AUTH_NOT_ENABLED);
    }
    match rules.user(&request.username) {
        None => Err(status::AUTH_FAILED),
        Some(user) if user.no_password() => Err(status::AUTH_NO_PASSWORD_USER),
        Some(_) => {
            shared.users.tokens.assign(&request.prefix, &request.username, index, shared.users.now());
            Ok(Output::TokenAssigned { index })
        }
    }
}

/// A refusal is an answer; any other error stops the member.
pub(super) fn refused(error: Error) -> mvcc::Result<Answer> {
    match (error.status(), error) {
        (Some(status), _) => Ok(Err(status)),
        (None, Error::Backend(error)) => Err(error.into()),
        (None, error) => Err(mvcc::Error::invariant(format!("users cannot be changed: {error}"))),
    }
}
