//! What a client sees of a member when it says who it is.

use api::etcdserverpb as pb;
use api::etcdserverpb::auth_client::AuthClient;
use api::etcdserverpb::cluster_client::ClusterClient;
use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::lease_client::LeaseClient;
use api::etcdserverpb::maintenance_client::MaintenanceClient;
use api::etcdserverpb::watch_client::WatchClient;
use api::v3electionpb::election_client::ElectionClient;
use api::v3lockpb::lock_client::LockClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::Member;

/// Clients that show a token, or none.
#[derive(Debug, Clone)]
pub struct Session {
    channel: Channel,
    token: Token,
}

/// Puts the token into each request.
#[derive(Debug, Clone, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// A connection through which the token is shown.
pub type Shown = InterceptedService<Channel, Token>;

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $client<Shown> {
            $client::with_interceptor(self.channel.clone(), self.token.clone())
        }
    )*};
}

impl Session {
    /// Says nothing.
    pub fn nobody(member: &Member) -> Self {
        Self { channel: member.channel(), token: Token::default() }
    }

    /// Shows this token, whatever it is.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn with_token(member: &Member, token: &str) -> Self {
        Self::nobody(member).showing(token)
    }

    /// Shows another token on the same connection.
    ///
    /// # Panics
    /// When it cannot be sent.
    #[must_use]
    pub fn showing(&self, token: &str) -> Self {
        let token = token.parse().expect("a token is printable");
        Self { channel: self.channel.clone(), token: Token(Some(token)) }
    }

    /// Gets a token for a name and a password, and shows that.
    ///
    /// # Panics
    /// When there is none for them.
    pub async fn login(member: &Member, name: &str, password: &str) -> Self {
        Self::with_token(member, &member.authenticate(name, password).await.expect("authenticate"))
    }

    clients! {
        /// A client of `etcdserverpb.KV`.
        kv: KvClient;
        /// A client of `etcdserverpb.Watch`.
        watch: WatchClient;
        /// A client of `etcdserverpb.Lease`.
        lease: LeaseClient;
        /// A client of `etcdserverpb.Cluster`.
        cluster: ClusterClient;
        /// A client of `etcdserverpb.Maintenance`.
        maintenance: MaintenanceClient;
        /// A client of `etcdserverpb.Auth`.
        auth: AuthClient;
        /// A client of `v3electionpb.Election`.
        election: ElectionClient;
        /// A client of `v3lockpb.Lock`.
        locks: LockClient;
    }
}

impl Member {
    /// A token for a name and a password.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn authenticate(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        Ok(Session::nobody(self).auth().authenticate(request).await?.into_inner().token)
    }
}

/// What administrators do, in short forms that panic when they are refused.
impl Session {
    /// Adds a user with a password.
    pub async fn add_user(&self, name: &str, password: &str) {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
        self.auth().user_add(request).await.expect("user add");
    }

    /// Adds a role.
    pub async fn add_role(&self, name: &str) {
        self.auth().role_add(pb::AuthRoleAddRequest { name: name.to_owned() }).await.expect("role add");
    }

    /// Removes a role.
    pub async fn delete_role(&self, role: &str) {
        let request = pb::AuthRoleDeleteRequest { role: role.to_owned() };
        self.auth().role_delete(request).await.expect("role delete");
    }

    /// Gives a user a role.
    pub async fn grant_role(&self, user: &str, role: &str) {
        let request = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
        self.auth().user_grant_role(request).await.expect("user grant role");
    }

    /// Permits a role something.
    pub async fn permit(&self, role: &str, permission: api::authpb::Permission) {
        let request = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(permission) };
        self.auth().role_grant_permission(request).await.expect("role grant permission");
    }

    /// Adds root, with this password, and turns authentication on.
    pub async fn enable(&self, root_password: &str) {
        self.add_user("root", root_password).await;
        // The real one wants a record.
        self.add_role("root").await;
        self.grant_role("root", "root").await;
        self.auth().auth_enable(pb::AuthEnableRequest {}).await.expect("auth enable");
    }
}
