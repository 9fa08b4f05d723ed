//! Who makes a call, and whether they may.
//!
//! What a call needs is in one table, so that a call which nobody thought about needs root. Where the keys or names in the
//! request decide, its handler asks. While authentication is off nothing is looked at.

use std::sync::Arc;

use ::auth::{Identity, Rules};
use api::status;
use http::HeaderMap;
use http::request::Parts;

use super::{Failure, Rpc};
use crate::permit::Permit;

/// The common name of the certificate that the client showed, among the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct CommonName(pub(crate) Arc<str>);

/// What a call shows of who makes it.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    token: Option<Arc<str>>,
    common_name: Option<Arc<str>>,
}

/// What a call needs while authentication is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// What is in the request decides.
    Request,
    /// To be any user.
    User,
    /// To hold the role root.
    Root,
}

fn needs(path: &str) -> Needs {
    match path.strip_prefix("/etcdserverpb.").unwrap_or(path) {
        "KV/Range" | "KV/RangeStream" | "KV/Put" | "KV/DeleteRange" | "KV/Txn" => Needs::Request,
        "Watch/Watch" | "Lease/LeaseKeepAlive" | "Auth/UserGet" | "Auth/RoleGet" => Needs::Request,
        "Lease/LeaseGrant" | "Lease/LeaseRevoke" | "Lease/LeaseTimeToLive" | "Lease/LeaseLeases" => {
            Needs::User
        }
        // To change an alarm needs more.
        "Cluster/MemberList" | "Maintenance/Status" | "Maintenance/Alarm" => Needs::User,
        "Auth/Authenticate" | "Auth/AuthStatus" => Needs::Nothing,
        // These call others, as whoever calls them.
        path if path.starts_with("/v3electionpb.") || path.starts_with("/v3lockpb.") => Needs::Request,
        path if path.starts_with("/grpc.") => Needs::Nothing,
        _ => Needs::Root,
    }
}

impl Caller {
    pub(crate) fn of(head: &Parts) -> Self {
        // A proxy's certificate is not its users'.
        let common_name = if head.headers.contains_key("grpcgateway-accept") {
            None
        } else {
            head.extensions.get::<CommonName>().map(|name| Arc::clone(&name.0))
        };
        Self { token: token(&head.headers), common_name }
    }
}

/// The first value of `token`, else of `authorization`.
fn token(headers: &HeaderMap) -> Option<Arc<str>> {
    let value = headers.get("token").or_else(|| headers.get("authorization"))?;
    let token = String::from_utf8_lossy(value.as_bytes());
    Some(token.strip_prefix("Bearer ").unwrap_or(&token).into())
}

impl Rpc {
    /// Who the caller is; nobody while authentication is off.
    pub(super) async fn identity(&self, caller: &Caller) -> Result<Option<Identity>, Failure> {
        let users = &self.shared.users;
        let rules = users.rules();
        if !rules.enabled() {
            return Ok(None);
        }
        let Some(token) = &caller.token else {
            let identity =
                |username: &Arc<str>| Identity { username: Arc::clone(username), revision: rules.revision() };
            return Ok(caller.common_name.as_ref().map(identity));
        };
        if let Some(index) = users.tokens.awaits(token)?
            && index > self.shared.applied.index()
        {
            // Another member issued it a moment ago, or nobody ever.
            let applied =
                tokio::time::timeout(self.limits.request_timeout, self.node.wait_applied(index)).await;
            applied.map_err(|_| status::INVALID_AUTH_TOKEN)?.map_err(|_| status::STOPPED)?;
        }
        let revision = users.rules().revision();
        Ok(Some(users.tokens.identity(token, revision, users.now())?))
    }

    /// Refuses calls that the caller may not make, whatever is in them.
    pub(super) async fn authorize(&self, path: &str, caller: &Caller) -> Result<(), Failure> {
        if !self.shared.users.rules().enabled() {
            return Ok(());
        }
        match needs(path) {
            Needs::Nothing | Needs::Request => Ok(()),
            Needs::User => self.judged(caller, |rules, identity| rules.check_user(identity)).await,
            Needs::Root => self.root(caller).await,
        }
    }

    /// Refuses who does not hold the role root.
    pub(super) async fn root(&self, caller: &Caller) -> Result<(), Failure> {
        self.judged(caller, |rules, identity| rules.check_root(identity)).await
    }

    /// Asks the rules of this member.
    pub(super) async fn judged(
        &self,
        caller: &Caller,
        judge: impl Fn(&Rules, Option<&Identity>) -> ::auth::Result<()>,
    ) -> Result<(), Failure> {
        let identity = self.identity(caller).await?;
        Ok(judge(&self.shared.users.rules(), identity.as_ref())?)
    }

    /// Asks the rules about what is going to be proposed, and returns who proposes it. It is asked again when it is applied; here it
    /// keeps what will be refused out of the log. A member may be behind, so a refusal is only believed once it is not.
    pub(super) async fn permitted(
        &self,
        caller: &Caller,
        ask: impl Fn(Permit<'_>) -> ::auth::Result<()>,
    ) -> Result<Option<Identity>, Failure> {
        let users = &self.shared.users;
        if !users.rules().enabled() {
            return Ok(None);
        }
        let identity = self.identity(caller).await?;
        let asked = |identity: &Option<Identity>| {
            let rules = users.rules();
            ask(Permit { rules: &rules, identity: identity.as_ref(), lessor: &self.shared.lessor })
        };
        if asked(&identity).is_ok() {
            return Ok(identity);
        }
        self.barrier().await?;
        let identity = self.identity(caller).await?;
        asked(&identity)?;
        Ok(identity)
    }

    /// Asks for the right to read here and now, and returns whom to [ask for again](Seen::still) when it has been read.
    pub(super) async fn may_read(
        &self,
        caller: &Caller,
        ask: impl Fn(Permit<'_>) -> ::auth::Result<()>,
    ) -> Result<Seen, Failure> {
        let users = &self.shared.users;
        if !users.rules().enabled() {
            return Ok(Seen(None));
        }
        let identity = self.identity(caller).await?;
        let rules = users.rules();
        ask(Permit { rules: &rules, identity: identity.as_ref(), lessor: &self.shared.lessor })?;
        Ok(Seen(identity))
    }
}

/// Somebody who was allowed to read.
#[derive(Clone)]
pub(super) struct Seen(Option<Identity>);

impl Seen {
    /// Whether the rules are those that were asked before: else what was read may be newer than a right that was lost.
    pub(super) fn still(&self, rules: &Rules) -> Result<(), Failure> {
        Ok(rules.check_after_read(self.0.as_ref())?)
    }
}

impl From<::auth::Error> for Failure {
    fn from(error: ::auth::Error) -> Self {
        error.status().map_or_else(|| Self::unknown(error.to_string()), Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_nobody_thought_of_needs_root() {
        assert_eq!(needs("/etcdserverpb.Maintenance/Snapshot"), Needs::Root);
        assert_eq!(needs("/etcdserverpb.Auth/UserAdd"), Needs::Root);
        assert_eq!(needs("/etcdserverpb.Maintenance/Invented"), Needs::Root);
        assert_eq!(needs("/etcdserverpb.Maintenance/Status"), Needs::User);
        assert_eq!(needs("/etcdserverpb.Auth/Authenticate"), Needs::Nothing);
        assert_eq!(needs("/grpc.health.v1.Health/Check"), Needs::Nothing);
    }

    #[test]
    fn the_token_is_the_first_of_its_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.insert("authorization", "Bearer a.1".parse().unwrap());
        assert_eq!(token(&headers).as_deref(), Some("a.1"));
        headers.insert("token", "b.2".parse().unwrap());
        headers.append("token", "c.3".parse().unwrap());
        assert_eq!(token(&headers).as_deref(), Some("b.2"));
    }
}
