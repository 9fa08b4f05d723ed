//! Users and roles, and whether they count.
//!
//! Changes are not made again by themselves when the connection breaks: whether they took effect is for the caller to see.

use api::authpb::{Permission, UserAddOptions};
use api::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse,
};
use bytes::Bytes;

use crate::retry::Repeat;
use crate::{Client, Result};

/// One call of the Auth service.
macro_rules! call {
    ($client:ident, $repeat:ident, $method:ident, $request:expr) => {{
        let call = $client.core.unary(Repeat::$repeat, $request, |stub, request| async move {
            stub.auth().$method(request).await
        });
        call.await
    }};
}

impl Client {
    /// Turns authentication on. There must be a user `root` with the role `root`.
    ///
    /// # Errors
    /// Any of [`Error`](crate::Error), likewise below.
    pub async fn auth_enable(&self) -> Result<AuthEnableResponse> {
        call!(self, Unsafe, auth_enable, AuthEnableRequest {})
    }

    /// Turns authentication off; users and roles stay.
    pub async fn auth_disable(&self) -> Result<AuthDisableResponse> {
        call!(self, Unsafe, auth_disable, AuthDisableRequest {})
    }

    /// Whether authentication is on.
    pub async fn auth_status(&self) -> Result<AuthStatusResponse> {
        call!(self, Harmless, auth_status, AuthStatusRequest {})
    }

    /// Adds a user.
    pub async fn user_add(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthUserAddResponse> {
        self.add_user(name.into(), password.into(), false).await
    }

    /// Adds a user that has no password, and so is known by its certificate alone.
    pub async fn user_add_without_password(&self, name: impl Into<String>) -> Result<AuthUserAddResponse> {
        self.add_user(name.into(), String::new(), true).await
    }

    async fn add_user(
        &self,
        name: String,
        password: String,
        no_password: bool,
    ) -> Result<AuthUserAddResponse> {
        let options = Some(UserAddOptions { no_password });
        let request = AuthUserAddRequest { name, password, options, ..Default::default() };
        call!(self, Unsafe, user_add, request)
    }

    /// Deletes a user.
    pub async fn user_delete(&self, name: impl Into<String>) -> Result<AuthUserDeleteResponse> {
        call!(self, Unsafe, user_delete, AuthUserDeleteRequest { name: name.into() })
    }

    /// The roles of a user.
    pub async fn user(&self, name: impl Into<String>) -> Result<AuthUserGetResponse> {
        call!(self, Harmless, user_get, AuthUserGetRequest { name: name.into() })
    }

    /// All users.
    pub async fn users(&self) -> Result<AuthUserListResponse> {
        call!(self, Harmless, user_list, AuthUserListRequest {})
    }

    /// Gives a user another password.
    pub async fn user_change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthUserChangePasswordResponse> {
        let request = AuthUserChangePasswordRequest {
            name: name.into(),
            password: password.into(),
            ..Default::default()
        };
        call!(self, Unsafe, user_change_password, request)
    }

    /// Gives a user a role.
    pub async fn user_grant_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthUserGrantRoleResponse> {
        let request = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        call!(self, Unsafe, user_grant_role, request)
    }

    /// Takes a role from a user.
    pub async fn user_revoke_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthUserRevokeRoleResponse> {
        let request = AuthUserRevokeRoleRequest { name: user.into(), role: role.into() };
        call!(self, Unsafe, user_revoke_role, request)
    }

    /// Adds a role that permits nothing yet.
    pub async fn role_add(&self, name: impl Into<String>) -> Result<AuthRoleAddResponse> {
        call!(self, Unsafe, role_add, AuthRoleAddRequest { name: name.into() })
    }

    /// Deletes a role, also from the users that have it.
    pub async fn role_delete(&self, role: impl Into<String>) -> Result<AuthRoleDeleteResponse> {
        call!(self, Unsafe, role_delete, AuthRoleDeleteRequest { role: role.into() })
    }

    /// What a role permits.
    pub async fn role(&self, role: impl Into<String>) -> Result<AuthRoleGetResponse> {
        call!(self, Harmless, role_get, AuthRoleGetRequest { role: role.into() })
    }

    /// All roles.
    pub async fn roles(&self) -> Result<AuthRoleListResponse> {
        call!(self, Harmless, role_list, AuthRoleListRequest {})
    }

    /// Permits a role something, in place of what it was permitted on the same range.
    pub async fn role_grant_permission(
        &self,
        role: impl Into<String>,
        permission: Permission,
    ) -> Result<AuthRoleGrantPermissionResponse> {
        let request = AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(permission) };
        call!(self, Unsafe, role_grant_permission, request)
    }

    /// Takes back what a role was permitted on exactly this range; an empty end is that of a single key.
    pub async fn role_revoke_permission(
        &self,
        role: impl Into<String>,
        key: impl Into<Bytes>,
        range_end: impl Into<Bytes>,
    ) -> Result<AuthRoleRevokePermissionResponse> {
        let request = AuthRoleRevokePermissionRequest {
            role: role.into(),
            key: key.into(),
            range_end: range_end.into(),
        };
        call!(self, Unsafe, role_revoke_permission, request)
    }
}
