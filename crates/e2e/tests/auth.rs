//! Users, roles and passwords: how they are managed, what each refusal says, what lasts.
//!
//! What somebody may see and change with a given right is `tests/rights`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use api::authpb::permission::Type;
use api::authpb::{Permission, UserAddOptions};
use api::etcdserverpb as pb;
use e2e::{Member, Session, each_target, get, put, refused};
use tonic::Code;

use etcd_rs_e2e as e2e;

const USER_EMPTY: &str = "etcdserver: user name is empty";
const DENIED: &str = "etcdserver: permission denied";
const FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
const INVALID_MANAGEMENT: &str = "etcdserver: invalid auth management";
const NO_USER: &str = "etcdserver: user name not found";
const NO_ROLE: &str = "etcdserver: role name not found";

fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    Permission { perm_type: kind.into(), key, range_end }
}

fn user_add(name: &str, password: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest { name: name.into(), password: password.into(), ..Default::default() }
}

fn grant_role(user: &str, role: &str) -> pb::AuthUserGrantRoleRequest {
    pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() }
}

fn grant(role: &str, perm: Permission) -> pb::AuthRoleGrantPermissionRequest {
    pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) }
}

fn password(name: &str, password: &str) -> pb::AuthUserChangePasswordRequest {
    let (name, password) = (name.into(), password.into());
    pb::AuthUserChangePasswordRequest { name, password, ..Default::default() }
}

async fn roles_of(session: &Session, name: &str) -> Vec<String> {
    session.auth().user_get(pb::AuthUserGetRequest { name: name.into() }).await.unwrap().into_inner().roles
}

/// Authentication is on, `ann` may read and write the keys from `a` to `b`, and root's password is `root`.
async fn with_ann(member: &Member) -> (Session, Session) {
    let admin = Session::nobody(member);
    admin.add_user("ann", "secret").await;
    admin.add_role("reader").await;
    admin.permit("reader", permission(Type::Readwrite, "a", "b")).await;
    admin.grant_role("ann", "reader").await;
    admin.enable("root").await;
    (Session::login(member, "root", "root").await, Session::login(member, "ann", "secret").await)
}

each_target! {
    everywhere;

    /// While authentication is off everybody manages users, and what cannot be is refused in etcd's words.
    async fn users_and_roles_are_managed(member) {
        let admin = Session::nobody(&member);
        let mut auth = admin.auth();
        refused(auth.user_add(user_add("", "x")).await, Code::InvalidArgument, USER_EMPTY);
        for name in ["carl", "ann", "bob"] {
            admin.add_user(name, "x").await;
        }
        let again = auth.user_add(user_add("ann", "x")).await;
        refused(again, Code::FailedPrecondition, "etcdserver: user name already exists");
        let users = auth.user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner();
        assert_eq!(users.users, ["ann", "bob", "carl"]);
        assert_eq!(users.header.unwrap().revision, 1, "the keyspace has not changed");

        for role in ["two", "one"] {
            admin.add_role(role).await;
        }
        let again = auth.role_add(pb::AuthRoleAddRequest { name: "one".into() }).await;
        refused(again, Code::FailedPrecondition, "etcdserver: role name already exists");
        refused(auth.user_grant_role(grant_role("none", "one")).await, Code::FailedPrecondition, NO_USER);
        refused(auth.user_grant_role(grant_role("ann", "none")).await, Code::FailedPrecondition, NO_ROLE);
        for role in ["two", "one", "one"] {
            admin.grant_role("ann", role).await;
        }
        assert_eq!(roles_of(&admin, "ann").await, ["one", "two"]);

        admin.delete_role("two").await;
        assert_eq!(roles_of(&admin, "ann").await, ["one"], "nobody holds a role that is gone");
        let revoke = |role: &str| pb::AuthUserRevokeRoleRequest { name: "ann".into(), role: role.into() };
        let not_granted = auth.user_revoke_role(revoke("two")).await;
        refused(not_granted, Code::FailedPrecondition, "etcdserver: role is not granted to the user");
        auth.user_revoke_role(revoke("one")).await.unwrap();
        assert!(roles_of(&admin, "ann").await.is_empty());

        auth.user_delete(pb::AuthUserDeleteRequest { name: "bob".into() }).await.unwrap();
        let gone = auth.user_delete(pb::AuthUserDeleteRequest { name: "bob".into() }).await;
        refused(gone, Code::FailedPrecondition, NO_USER);
        refused(auth.user_change_password(password("bob", "y")).await, Code::FailedPrecondition, NO_USER);
    }

    /// A role's permissions are sorted by key; the same range again changes its kind.
    async fn permissions_are_granted_and_revoked(member) {
        let admin = Session::nobody(&member);
        let mut auth = admin.auth();
        admin.add_role("r").await;
        for (kind, key, end) in [(Type::Write, "m", "z"), (Type::Read, "a", ""), (Type::Readwrite, "m", "z")] {
            admin.permit("r", permission(kind, key, end)).await;
        }
        let role = || pb::AuthRoleGetRequest { role: "r".into() };
        let found = auth.role_get(role()).await.unwrap().into_inner().perm;
        assert_eq!(found, [permission(Type::Read, "a", ""), permission(Type::Readwrite, "m", "z")]);

        let unknown = auth.role_grant_permission(grant("none", permission(Type::Read, "a", ""))).await;
        refused(unknown, Code::FailedPrecondition, NO_ROLE);
        let revoke = |key: &str, end: &str| pb::AuthRoleRevokePermissionRequest {
            role: "r".into(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        };
        let other = auth.role_revoke_permission(revoke("m", "y")).await;
        refused(other, Code::FailedPrecondition, "etcdserver: permission is not granted to the role");
        auth.role_revoke_permission(revoke("m", "z")).await.unwrap();
        let found = auth.role_get(role()).await.unwrap().into_inner().perm;
        assert_eq!(found, [permission(Type::Read, "a", "")]);
    }

    /// Nobody can lock themselves out: authentication needs root, who has to stay root.
    async fn authentication_needs_root(member) {
        let admin = Session::nobody(&member);
        let mut auth = admin.auth();
        let login = member.authenticate("root", "x").await.unwrap_err();
        assert_eq!((login.code(), login.message()), (Code::FailedPrecondition, "etcdserver: authentication is not enabled"));
        let enabled = auth.auth_enable(pb::AuthEnableRequest {}).await;
        refused(enabled, Code::FailedPrecondition, "etcdserver: root user does not exist");
        admin.add_user("root", "root").await;
        let enabled = auth.auth_enable(pb::AuthEnableRequest {}).await;
        refused(enabled, Code::FailedPrecondition, "etcdserver: root user does not have root role");
        admin.add_role("root").await;
        admin.grant_role("root", "root").await;
        auth.auth_disable(pb::AuthDisableRequest {}).await.expect("off already");
        auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();

        let root = Session::login(&member, "root", "root").await;
        let mut auth = root.auth();
        auth.auth_enable(pb::AuthEnableRequest {}).await.expect("on already");
        let name = || "root".to_owned();
        let deleted = auth.user_delete(pb::AuthUserDeleteRequest { name: name() }).await;
        refused(deleted, Code::InvalidArgument, INVALID_MANAGEMENT);
        let deleted = auth.role_delete(pb::AuthRoleDeleteRequest { role: name() }).await;
        refused(deleted, Code::InvalidArgument, INVALID_MANAGEMENT);
        let revoked = auth.user_revoke_role(pb::AuthUserRevokeRoleRequest { name: name(), role: name() }).await;
        refused(revoked, Code::InvalidArgument, INVALID_MANAGEMENT);
    }

    /// Without a token nothing can be done, and with a user's only what users may.
    async fn who_is_not_root_manages_nothing(member) {
        let (_, ann) = with_ann(&member).await;
        let nobody = Session::nobody(&member);
        for (session, code, text) in [(&nobody, Code::InvalidArgument, USER_EMPTY), (&ann, Code::PermissionDenied, DENIED)] {
            let mut auth = session.auth();
            refused(auth.user_add(user_add("eve", "x")).await, code, text);
            refused(auth.user_list(pb::AuthUserListRequest {}).await, code, text);
            refused(auth.role_list(pb::AuthRoleListRequest {}).await, code, text);
            refused(auth.user_get(pb::AuthUserGetRequest { name: "root".into() }).await, code, text);
            refused(auth.role_get(pb::AuthRoleGetRequest { role: "root".into() }).await, code, text);
            refused(auth.user_change_password(password("ann", "new")).await, code, text);
            refused(auth.user_grant_role(grant_role("ann", "root")).await, code, text);
            refused(auth.auth_disable(pb::AuthDisableRequest {}).await, code, text);
            refused(session.kv().range(get("z")).await, code, text);
            refused(session.kv().put(put("z", "1")).await, code, text);
        }
        assert_eq!(roles_of(&ann, "ann").await, ["reader"], "but one may look at oneself");
        let own = ann.auth().role_get(pb::AuthRoleGetRequest { role: "reader".into() }).await;
        assert_eq!(own.unwrap().into_inner().perm, [permission(Type::Readwrite, "a", "b")]);
    }

    /// A login says nothing about whether it was the name or the password.
    async fn a_login_needs_name_and_password(member) {
        let (root, _) = with_ann(&member).await;
        let without = Some(UserAddOptions { no_password: true });
        let request = pb::AuthUserAddRequest { options: without, ..user_add("certificate", "") };
        root.auth().user_add(request).await.unwrap();
        for (name, password) in [("ann", "wrong"), ("ann", ""), ("nobody", "secret"), ("", "")] {
            let status = member.authenticate(name, password).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, FAILED), "{name} {password}");
        }
        let status = member.authenticate("certificate", "x").await.unwrap_err();
        let text = "auth: authentication failed, password was given for no password user";
        assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    }

    /// What is no token is refused, whatever it looks like.
    async fn a_token_must_be_known(member) {
        let (_, ann) = with_ann(&member).await;
        ann.kv().put(put("a", "1")).await.unwrap();
        for token in ["", "x", "abcdefghijklmnop", "abcdefghijklmnop.1", "abcdefghijklmnop.x", "a.b.c", "."] {
            let session = Session::with_token(&member, token);
            refused(session.kv().range(get("a")).await, Code::Unauthenticated, INVALID_TOKEN);
            refused(session.kv().put(put("a", "2")).await, Code::Unauthenticated, INVALID_TOKEN);
        }
        assert_eq!(ann.kv().range(get("a")).await.unwrap().into_inner().kvs[0].value, "1");
    }

    /// A token ends with its user, with its user's password, and with authentication.
    async fn a_token_ends_with_what_it_stands_for(member) {
        let (root, ann) = with_ann(&member).await;
        root.auth().user_change_password(password("ann", "new")).await.unwrap();
        refused(ann.kv().range(get("a")).await, Code::Unauthenticated, INVALID_TOKEN);
        let old = member.authenticate("ann", "secret").await.unwrap_err();
        assert_eq!(old.message(), FAILED);
        let ann = Session::login(&member, "ann", "new").await;
        ann.kv().range(get("a")).await.unwrap();
        root.auth().user_delete(pb::AuthUserDeleteRequest { name: "ann".into() }).await.unwrap();
        refused(ann.kv().range(get("a")).await, Code::Unauthenticated, INVALID_TOKEN);

        root.auth().auth_disable(pb::AuthDisableRequest {}).await.unwrap();
        Session::nobody(&member).auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
        refused(root.kv().range(get("a")).await, Code::Unauthenticated, INVALID_TOKEN);
    }

    /// What a role gains or loses counts from the next call on, with the token one has.
    async fn rights_change_under_a_token(member) {
        let (root, ann) = with_ann(&member).await;
        ann.kv().put(put("a1", "1")).await.unwrap();
        refused(ann.kv().put(put("c", "1")).await, Code::PermissionDenied, DENIED);
        root.permit("reader", permission(Type::Readwrite, "b", "d")).await;
        ann.kv().put(put("c", "1")).await.unwrap();
        let both = pb::RangeRequest { key: "a".into(), range_end: "d".into(), ..Default::default() };
        let found = ann.kv().range(both.clone()).await.expect("two permissions side by side cover the range");
        assert_eq!(found.into_inner().kvs.len(), 2);
        root.delete_role("reader").await;
        refused(ann.kv().range(both).await, Code::PermissionDenied, DENIED);
        refused(ann.kv().put(put("a1", "1")).await, Code::PermissionDenied, DENIED);
    }

    /// Users, roles and that authentication is on are found again; simple tokens are not.
    async fn users_survive_a_restart(member) {
        let mut member = member;
        let (_, ann) = with_ann(&member).await;
        ann.kv().put(put("a", "1")).await.unwrap();
        member.stop("TERM").await;
        member.launch().await;
        refused(Session::nobody(&member).kv().range(get("a")).await, Code::InvalidArgument, USER_EMPTY);
        let ann = Session::login(&member, "ann", "secret").await;
        assert_eq!(ann.kv().range(get("a")).await.unwrap().into_inner().kvs[0].value, "1");
        assert_eq!(roles_of(&ann, "ann").await, ["reader"]);
    }
}

mod newer {
    //! What newer versions do otherwise than the one compared with.

    use api::authpb::permission::Type;
    use api::etcdserverpb as pb;
    use e2e::{Session, each_target, put, refused};
    use etcd_rs_e2e as e2e;
    use tonic::Code;

    use super::{
        DENIED, FAILED, INVALID_MANAGEMENT, USER_EMPTY, grant, password, permission, user_add, with_ann,
    };

    async fn revision(session: &Session) -> (bool, u64) {
        let status = session.auth().auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
        (status.enabled, status.auth_revision)
    }

    each_target! {
        ours;

        /// Every change that changes something counts, and turning authentication off does. Anybody may ask.
        async fn the_auth_revision_counts_changes(member) {
            let admin = Session::nobody(&member);
            assert_eq!(revision(&admin).await, (false, 1));
            admin.add_user("ann", "x").await;
            admin.add_role("r").await;
            admin.permit("r", permission(Type::Read, "a", "")).await;
            admin.grant_role("ann", "r").await;
            assert_eq!(revision(&admin).await, (false, 5));
            admin.grant_role("ann", "r").await;
            assert_eq!(revision(&admin).await, (false, 5), "she had it");
            admin.enable("root").await;
            assert_eq!(revision(&admin).await, (true, 8), "turning it on is none");
            let root = Session::login(&member, "root", "root").await;
            root.auth().auth_disable(pb::AuthDisableRequest {}).await.unwrap();
            assert_eq!(revision(&admin).await, (false, 9));
        }

        /// A stale token harms nobody while authentication is off. (3.4 refused it.)
        async fn tokens_do_not_matter_while_authentication_is_off(member) {
            let (root, _) = with_ann(&member).await;
            root.auth().auth_disable(pb::AuthDisableRequest {}).await.unwrap();
            root.kv().put(put("a", "1")).await.unwrap();
            Session::with_token(&member, "x").kv().put(put("a", "2")).await.unwrap();
        }

        /// A range that holds nothing cannot be permitted, nor a role without a name.
        async fn what_makes_no_sense_is_not_granted(member) {
            let admin = Session::nobody(&member);
            let mut auth = admin.auth();
            let nameless = auth.role_add(pb::AuthRoleAddRequest::default()).await;
            refused(nameless, Code::InvalidArgument, "etcdserver: role name is empty");
            admin.add_role("r").await;
            for (key, end) in [("", ""), ("", "b"), ("b", "b"), ("b", "a")] {
                let granted = auth.role_grant_permission(grant("r", permission(Type::Read, key, end))).await;
                refused(granted, Code::InvalidArgument, INVALID_MANAGEMENT);
            }
            let nothing = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: None };
            let text = "etcdserver: permission not given";
            refused(auth.role_grant_permission(nothing).await, Code::InvalidArgument, text);
        }

        /// bcrypt looks at 72 bytes, so that a longer password would not be the one that is checked.
        async fn a_password_is_not_cut_short(member) {
            let admin = Session::nobody(&member);
            let added = admin.auth().user_add(user_add("ann", &"x".repeat(73))).await;
            refused(added, Code::Unknown, "bcrypt: password length exceeds 72 bytes");
            admin.add_user("ann", &"x".repeat(72)).await;
            // Without any password nobody logs in.
            admin.auth().user_change_password(password("ann", "")).await.unwrap();
            admin.enable("root").await;
            assert_eq!(member.authenticate("ann", "").await.unwrap_err().message(), FAILED);
        }

        /// CVE-2026-33413 and its kin: the calls that tell of the cluster, or change it, are asked for rights too.
        async fn the_cluster_is_nobodys_business(member) {
            let (_, ann) = with_ann(&member).await;
            let nobody = Session::nobody(&member);
            let (mut cluster, mut maintenance, mut lease) =
                (nobody.cluster(), nobody.maintenance(), nobody.lease());
            let empty = (Code::InvalidArgument, USER_EMPTY);
            refused(cluster.member_list(pb::MemberListRequest::default()).await, empty.0, empty.1);
            refused(maintenance.status(pb::StatusRequest {}).await, empty.0, empty.1);
            refused(maintenance.alarm(pb::AlarmRequest::default()).await, empty.0, empty.1);
            refused(lease.lease_grant(pb::LeaseGrantRequest { ttl: 10, id: 0 }).await, empty.0, empty.1);
            refused(lease.lease_leases(pb::LeaseLeasesRequest {}).await, empty.0, empty.1);
            let time_to_live = lease.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 1, keys: false });
            refused(time_to_live.await, empty.0, empty.1);
            refused(lease.lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await, empty.0, empty.1);

            ann.cluster().member_list(pb::MemberListRequest::default()).await.expect("any user may");
            ann.maintenance().status(pb::StatusRequest {}).await.expect("any user may");
            let (mut cluster, mut maintenance, mut kv) = (ann.cluster(), ann.maintenance(), ann.kv());
            let denied = (Code::PermissionDenied, DENIED);
            let activate = pb::AlarmRequest { action: 1, member_id: 1, alarm: 1 };
            refused(maintenance.alarm(activate).await, denied.0, denied.1);
            refused(maintenance.defragment(pb::DefragmentRequest {}).await, denied.0, denied.1);
            refused(maintenance.hash(pb::HashRequest {}).await, denied.0, denied.1);
            refused(maintenance.hash_kv(pb::HashKvRequest::default()).await, denied.0, denied.1);
            refused(maintenance.move_leader(pb::MoveLeaderRequest::default()).await, denied.0, denied.1);
            refused(kv.compact(pb::CompactionRequest::default()).await, denied.0, denied.1);
            refused(cluster.member_remove(pb::MemberRemoveRequest { id: 1 }).await, denied.0, denied.1);
            let add = pb::MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:1".into()], is_learner: false };
            refused(cluster.member_add(add).await, denied.0, denied.1);
            refused(ann.kv().put(put("z", "1")).await, denied.0, denied.1);
        }
    }
}
