//! What authentication costs: puts and reads of a user whose role has a hundred permissions, each load right after the
//! same one with authentication off, so that both find the server in the same state.

use anyhow::{Context, Result};
use api::authpb::{Permission, permission::Type};
use api::etcdserverpb as pb;
use bytes::Bytes;
use prost::Message;

use super::{Bench, kv};
use crate::closed_loop::call;
use crate::messages::{framed, prefix_end, unframed};
use crate::wire::Connection;

/// How the tables begin the names of these loads.
const OFF: &str = "auth off: ";
const ON: &str = "auth on: ";

const IN_FLIGHT: [usize; 2] = [1, 200];
/// Besides the one that the load needs: a user of a large installation may do many things.
const OTHER_PERMISSIONS: usize = 99;

const ADMIN: &str = "root";
const USER: &str = "bench";
const PASSWORD: &str = "open sesame";

/// Runs all of them.
pub(crate) async fn all(bench: &mut Bench<'_>) -> Result<()> {
    kv::fill(bench).await?;
    let mut admin = Admin { connection: Connection::open(bench.server.address()).await? };
    admin.set_up().await?;
    for in_flight in IN_FLIGHT {
        kv::put(bench, OFF, in_flight).await?;
        admin.enable(bench).await?;
        kv::put(bench, ON, in_flight).await?;
        admin.disable(bench).await?;
        for serializable in [false, true] {
            kv::get(bench, OFF, in_flight, serializable).await?;
            admin.enable(bench).await?;
            kv::get(bench, ON, in_flight, serializable).await?;
            admin.disable(bench).await?;
        }
    }
    Ok(())
}

/// Who turns authentication on and off.
struct Admin {
    connection: Connection,
}

impl Admin {
    async fn ask<A: Message + Default>(
        &mut self,
        method: &'static str,
        question: &impl Message,
    ) -> Result<A> {
        unframed(&call(&mut self.connection, method, &framed(question)).await?)
    }

    /// Makes the two users, and the role that allows what the loads do.
    async fn set_up(&mut self) -> Result<()> {
        for name in [ADMIN, USER] {
            self.add(name).await?;
        }
        self.permit("/hot/").await?;
        for number in 0..OTHER_PERMISSIONS {
            self.permit(&format!("/other/{number:0>3}/")).await?;
        }
        Ok(())
    }

    /// Adds a user with a role of its name.
    async fn add(&mut self, name: &str) -> Result<()> {
        let (user, role) = (name.to_owned(), name.to_owned());
        let request = pb::AuthUserAddRequest {
            name: user.clone(),
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        let _: pb::AuthUserAddResponse = self.ask("/etcdserverpb.Auth/UserAdd", &request).await?;
        let request = pb::AuthRoleAddRequest { name: role.clone() };
        let _: pb::AuthRoleAddResponse = self.ask("/etcdserverpb.Auth/RoleAdd", &request).await?;
        let request = pb::AuthUserGrantRoleRequest { user, role };
        let _: pb::AuthUserGrantRoleResponse = self.ask("/etcdserverpb.Auth/UserGrantRole", &request).await?;
        Ok(())
    }

    /// Lets the user read and write every key that begins with `prefix`.
    async fn permit(&mut self, prefix: &str) -> Result<()> {
        let perm = Permission {
            perm_type: Type::Readwrite.into(),
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
        };
        let request = pb::AuthRoleGrantPermissionRequest { name: USER.to_owned(), perm: Some(perm) };
        let _: pb::AuthRoleGrantPermissionResponse =
            self.ask("/etcdserverpb.Auth/RoleGrantPermission", &request).await?;
        Ok(())
    }

    /// Turns authentication on, and has the loads run as the user.
    async fn enable(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let _: pb::AuthEnableResponse =
            self.ask("/etcdserverpb.Auth/AuthEnable", &pb::AuthEnableRequest {}).await?;
        let token = self.log_in(ADMIN).await?;
        self.connection.show(Some(token));
        let token = self.log_in(USER).await?;
        bench.server.show(Some(token));
        bench.server.settle().await
    }

    /// Turns authentication off again.
    async fn disable(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let _: pb::AuthDisableResponse =
            self.ask("/etcdserverpb.Auth/AuthDisable", &pb::AuthDisableRequest {}).await?;
        self.connection.show(None);
        bench.server.show(None);
        bench.server.settle().await
    }

    async fn log_in(&mut self, name: &str) -> Result<String> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: PASSWORD.to_owned() };
        let answer: pb::AuthenticateResponse = self
            .ask("/etcdserverpb.Auth/Authenticate", &request)
            .await
            .with_context(|| format!("logging {name} in"))?;
        Ok(answer.token)
    }
}
