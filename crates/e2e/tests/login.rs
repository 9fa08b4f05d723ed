//! What our client does with a user and a password: it logs in, and logs in again when its token is worth nothing any more,
//! without whoever uses it noticing.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use api::authpb::Permission;
use api::authpb::permission::Type;
use api::{LeaseId, status};
use client::{Client, ConnectOptions};
use e2e::{Member, Session, each_target};

use etcd_rs_e2e as e2e;

/// There is `ann`, who may read and write the keys from `a` to `b`.
async fn add_ann(member: &Member) -> Session {
    let admin = Session::nobody(member);
    admin.add_user("ann", "secret").await;
    admin.add_role("writer").await;
    let perm = Permission { perm_type: Type::Readwrite.into(), key: "a".into(), range_end: "b".into() };
    admin.permit("writer", perm).await;
    admin.grant_role("ann", "writer").await;
    admin
}

async fn connect(member: &Member, password: &str) -> client::Result<Client> {
    Client::connect(ConnectOptions::new([member.client_url()]).user("ann", password)).await
}

/// Stops the member and starts it again: the tokens that it knew are gone.
async fn restart(member: &mut Member) {
    member.stop("TERM").await;
    member.launch().await;
}

each_target! {
    everywhere;

    /// A client acts as its user, and is refused what that user may not do.
    async fn a_client_acts_as_its_user(member) {
        add_ann(&member).await.enable("root").await;

        let ann = connect(&member, "secret").await.unwrap();
        ann.put("a", "1").await.unwrap();
        assert_eq!(ann.get("a").await.unwrap().kvs[0].value, "1");
        assert!(ann.put("z", "1").await.unwrap_err().is(status::PERMISSION_DENIED));
        assert!(ann.get("").prefix().await.unwrap_err().is(status::PERMISSION_DENIED));
        assert!(ann.users().await.unwrap_err().is(status::PERMISSION_DENIED));

        assert!(connect(&member, "guess").await.unwrap_err().is(status::AUTH_FAILED));
    }

    /// A client that connected while there was nothing to log in to does so when there is.
    async fn a_client_from_before_authentication_logs_in(member) {
        let admin = add_ann(&member).await;
        let ann = connect(&member, "secret").await.unwrap();
        ann.put("z", "everybody may").await.unwrap();

        admin.enable("root").await;
        ann.put("a", "1").await.unwrap();
        assert!(ann.put("z", "2").await.unwrap_err().is(status::PERMISSION_DENIED));
    }
}

/// Where the etcd compared with says only that permission is denied, whatever is wrong with a token, or says nothing for seconds
/// after a restart.
mod streams {
    use super::*;

    each_target! {
        ours;

        /// A client whose token a restart has made worthless fetches another.
        async fn a_client_outlives_its_token(member) {
            let mut member = member;
            add_ann(&member).await.enable("root").await;
            let ann = connect(&member, "secret").await.unwrap();
            ann.put("a", "1").await.unwrap();

            restart(&mut member).await;
            assert_eq!(ann.get("a").await.unwrap().kvs[0].value, "1");
            ann.put("a", "2").await.unwrap();
        }

        /// Watches and kept leases go on after a restart, with another token.
        async fn streams_outlive_their_token(member) {
            let mut member = member;
            add_ann(&member).await.enable("root").await;
            let ann = connect(&member, "secret").await.unwrap();
            let mut watch = ann.watch("a").await.unwrap();
            assert!(ann.watch("z").await.unwrap_err().is(status::PERMISSION_DENIED));
            let lease = LeaseId::new(ann.lease_grant(600).await.unwrap().id);
            let mut keeper = ann.lease_keep_alive(lease);
            keeper.next().await.unwrap().unwrap();

            restart(&mut member).await;
            // A new stream begins with asking for all leases.
            keeper.next().await.unwrap().unwrap();
            ann.get("a").await.unwrap();
            ann.put("a", "1").lease(lease).await.unwrap();
            let seen = watch.next().await.unwrap().unwrap();
            assert_eq!(seen.events[0].kv.as_ref().unwrap().value, "1");
        }

        /// A watch from before authentication was turned on is created anew as its user when its stream breaks.
        async fn a_watch_from_before_authentication_logs_in(member) {
            let mut member = member;
            let admin = add_ann(&member).await;
            let ann = connect(&member, "secret").await.unwrap();
            let mut watch = ann.watch("a").await.unwrap();
            admin.enable("root").await;

            restart(&mut member).await;
            ann.get("a").await.unwrap();
            ann.put("a", "1").await.unwrap();
            let seen = watch.next().await.unwrap().unwrap();
            assert_eq!(seen.events[0].kv.as_ref().unwrap().value, "1");
        }
    }
}
