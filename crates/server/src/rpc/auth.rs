//! Auth: users, roles, permissions, and the tokens that users get for their passwords.

use std::sync::Arc;

use ::auth::{Identity, Rules};
use api::authpb::{Permission, permission};
use api::etcdserverpb as pb;
use api::internal::AuthTokenAssign;
use api::internal::auth_change::Change;
use api::status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::caller::Caller;
use super::frame::Messages;
use super::{Failure, Framed, Rpc, decode, frame, kv};
use crate::apply::Output;
use crate::proposal::Command;

/// What the paths of this service's calls begin with.
pub(super) const PREFIX: &str = "/etcdserverpb.Auth/";

/// One of the calls of this service.
pub(super) async fn serve(rpc: &Arc<Rpc>, caller: &Caller, path: &str, messages: &mut Messages) -> Framed {
    // Rare calls are not to make every other one larger.
    Box::pin(call(rpc, caller, path, messages)).await
}

async fn call(rpc: &Arc<Rpc>, caller: &Caller, path: &str, messages: &mut Messages) -> Framed {
    let method = path.strip_prefix(PREFIX).unwrap_or(path);
    if !METHODS.contains(&method) {
        return Err(rpc.unknown(path));
    }
    let raw = &messages.only().await?;
    match method {
        "AuthEnable" => enable(rpc, caller, raw).await,
        "AuthDisable" => disable(rpc, caller, raw).await,
        "AuthStatus" => auth_status(rpc).await,
        "Authenticate" => authenticate(rpc, raw).await,
        "UserAdd" => user_add(rpc, caller, raw).await,
        "UserGet" => user_get(rpc, caller, raw).await,
        "UserList" => user_list(rpc, caller).await,
        "UserDelete" => user_delete(rpc, caller, raw).await,
        "UserChangePassword" => user_change_password(rpc, caller, raw).await,
        "UserGrantRole" => user_grant_role(rpc, caller, raw).await,
        "UserRevokeRole" => user_revoke_role(rpc, caller, raw).await,
        "RoleAdd" => role_add(rpc, caller, raw).await,
        "RoleGet" => role_get(rpc, caller, raw).await,
        "RoleList" => role_list(rpc, caller).await,
        "RoleDelete" => role_delete(rpc, caller, raw).await,
        "RoleGrantPermission" => role_grant_permission(rpc, caller, raw).await,
        "RoleRevokePermission" => role_revoke_permission(rpc, caller, raw).await,
        _ => Err(rpc.unknown(path)),
    }
}

const METHODS: &[&str] = &[
    "AuthEnable",
    "AuthDisable",
    "AuthStatus",
    "Authenticate",
    "UserAdd",
    "UserGet",
    "UserList",
    "UserDelete",
    "UserChangePassword",
    "UserGrantRole",
    "UserRevokeRole",
    "RoleAdd",
    "RoleGet",
    "RoleList",
    "RoleDelete",
    "RoleGrantPermission",
    "RoleRevokePermission",
];

/// The role that may do everything, whatever is granted to it.
const ROOT: &str = "root";

fn everything() -> Permission {
    Permission {
        perm_type: permission::Type::Readwrite.into(),
        key: Bytes::new(),
        range_end: Bytes::from_static(&[0]),
    }
}

type Header = Option<pb::ResponseHeader>;

async fn change(rpc: &Arc<Rpc>, caller: &Caller, change: Change) -> Result<Header, Failure> {
    let identity = rpc.permitted(caller, |permit| permit.rules.check_root(permit.identity)).await?;
    match rpc.shared.proposals.propose(Command::auth_change(change).by(identity)).await? {
        Output::Revision(revision) => Ok(Some(rpc.shared.header(revision))),
        other => Err(kv::mismatched(&other)),
    }
}

async fn enable(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::Enable(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthEnableResponse { header }))
}

async fn disable(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::Disable(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthDisableResponse { header }))
}

async fn user_add(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let mut request: pb::AuthUserAddRequest = decode(raw)?;
    rpc.root(caller).await?;
    let password = std::mem::take(&mut request.password);
    let without = request.options.as_ref().is_some_and(|options| options.no_password);
    request.hashed_password = if without { String::new() } else { hashed(rpc, &password).await? };
    let header = change(rpc, caller, Change::UserAdd(request)).await?;
    Ok(frame::message(&pb::AuthUserAddResponse { header }))
}

async fn user_change_password(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let mut request: pb::AuthUserChangePasswordRequest = decode(raw)?;
    rpc.root(caller).await?;
    let password = std::mem::take(&mut request.password);
    // Without a password the client's own hash counts; without that either, nobody can log in any more.
    if !password.is_empty() {
        request.hashed_password = hashed(rpc, &password).await?;
    }
    let header = change(rpc, caller, Change::UserChangePassword(request)).await?;
    Ok(frame::message(&pb::AuthUserChangePasswordResponse { header }))
}

async fn hashed(rpc: &Rpc, password: &str) -> Result<String, Failure> {
    Ok(BASE64.encode(rpc.shared.users.passwords.hash(password).await?))
}

async fn user_delete(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::UserDelete(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthUserDeleteResponse { header }))
}

async fn user_grant_role(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::UserGrantRole(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthUserGrantRoleResponse { header }))
}

async fn user_revoke_role(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::UserRevokeRole(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthUserRevokeRoleResponse { header }))
}

async fn role_add(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::RoleAdd(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthRoleAddResponse { header }))
}

async fn role_delete(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::RoleDelete(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthRoleDeleteResponse { header }))
}

async fn role_grant_permission(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::RoleGrantPermission(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthRoleGrantPermissionResponse { header }))
}

async fn role_revoke_permission(rpc: &Arc<Rpc>, caller: &Caller, raw: &Bytes) -> Framed {
    let header = change(rpc, caller, Change::RoleRevokePermission(decode(raw)?)).await?;
    Ok(frame::message(&pb::AuthRoleRevokePermissionResponse { header }))
}

/// The rules after everything that was acknowledged anywhere, for somebody who may see them.
async fn seen(
    rpc: &Rpc,
    caller: &Caller,
    judge: impl Fn(&Rules, Option<&Identity>) -> ::auth::Result<()>,
) -> Result<(Arc<Rules>, Header), Failure> {
    rpc.barrier().await?;
    let identity = rpc.identity(caller).await?;
    let rules = rpc.shared.users.rules();
    judge(&rules, identity.as_ref())?;
    Ok((rules, Some(rpc.shared.header_now())))
}

async fn auth_status(rpc: &Rpc) -> Framed {
    let (rules, header) = seen(rpc, &Caller::default(), |_, _| Ok(())).await?;
    let (enabled, auth_revision) = (rules.enabled(), rules.revision());
    Ok(frame::message(&pb::AuthStatusResponse { header, enabled, auth_revision }))
}

async fn user_get(rpc: &Rpc, caller: &Caller, raw: &Bytes) -> Framed {
    let request: pb::AuthUserGetRequest = decode(raw)?;
    let judge = |rules: &Rules, identity: Option<&Identity>| rules.check_user_get(identity, &request.name);
    let (rules, header) = seen(rpc, caller, judge).await?;
    let user = rules.user(&request.name).ok_or(status::USER_NOT_FOUND)?;
    Ok(frame::message(&pb::AuthUserGetResponse { header, roles: user.roles().to_vec() }))
}

async fn user_list(rpc: &Rpc, caller: &Caller) -> Framed {
    let (rules, header) = seen(rpc, caller, Rules::check_root).await?;
    let users = rules.users().map(str::to_owned).collect();
    Ok(frame::message(&pb::AuthUserListResponse { header, users }))
}

async fn role_get(rpc: &Rpc, caller: &Caller, raw: &Bytes) -> Framed {
    let request: pb::AuthRoleGetRequest = decode(raw)?;
    let judge = |rules: &Rules, identity: Option<&Identity>| rules.check_role_get(identity, &request.role);
    let (rules, header) = seen(rpc, caller, judge).await?;
    let role = rules.role(&request.role).ok_or(status::ROLE_NOT_FOUND)?;
    let perm = if request.role == ROOT { vec![everything()] } else { role.permissions().to_vec() };
    Ok(frame::message(&pb::AuthRoleGetResponse { header, perm }))
}

async fn role_list(rpc: &Rpc, caller: &Caller) -> Framed {
    let (rules, header) = seen(rpc, caller, Rules::check_root).await?;
    let roles = rules.roles().map(str::to_owned).collect();
    Ok(frame::message(&pb::AuthRoleListResponse { header, roles }))
}

/// A token for a password. The password is checked here, and every member then learns of the token; should users have changed
/// meanwhile, the password is checked again.
async fn authenticate(rpc: &Arc<Rpc>, raw: &Bytes) -> Framed {
    let request: pb::AuthenticateRequest = decode(raw)?;
    let users = &rpc.shared.users;
    loop {
        rpc.barrier().await?;
        let rules = users.rules();
        if !rules.enabled() {
            return Err(status::AUTH_NOT_ENABLED.into());
        }
        let user = rules.user(&request.name);
        if user.is_some_and(::auth::User::no_password) {
            return Err(status::AUTH_NO_PASSWORD_USER.into());
        }
        let stored = user.map(::auth::User::password_hash);
        if !users.passwords.verify(&request.name, stored, &request.password).await? {
            return Err(status::AUTH_FAILED.into());
        }
        let prefix = users.tokens.prefix()?;
        let assign = AuthTokenAssign { username: request.name.clone(), prefix: prefix.clone() };
        let index =
            match rpc.shared.proposals.propose(Command::auth_change(Change::TokenAssign(assign))).await? {
                Output::TokenAssigned { index } => index,
                other => return Err(kv::mismatched(&other)),
            };
        if users.rules().revision() != rules.revision() {
            continue;
        }
        let identity = Identity { username: request.name.as_str().into(), revision: rules.revision() };
        let token = users.tokens.issue(&prefix, index, &identity, users.now())?;
        return Ok(frame::message(&pb::AuthenticateResponse {
            header: Some(rpc.shared.header_now()),
            token,
        }));
    }
}
