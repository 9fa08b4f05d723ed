//! Who may call what, apart from keys: nobody, any user, root.

use api::etcdserverpb as pb;
use e2e::{Member, Session, each_target};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tonic::{Code, Status};

use etcd_rs_e2e as e2e;

/// What is tried, and by whom.
type Call = (&'static str, fn(Session) -> BoxFuture<'static, Result<(), Status>>);

macro_rules! calls {
    ($($name:literal: $client:ident.$method:ident($request:expr);)*) => {
        [$(($name, |session| async move { session.$client().$method($request).await.map(drop) }.boxed())),*]
    };
}

const NO_MEMBER: u64 = 0x1234;

/// What only root may do. Nothing here would do anything if it were let through.
fn roots() -> Vec<Call> {
    let calls: [Call; 21] = calls! {
        "compact": kv.compact(pb::CompactionRequest { revision: 1 << 40, physical: false });
        "hash": maintenance.hash(pb::HashRequest {});
        "hash_kv": maintenance.hash_kv(pb::HashKvRequest::default());
        "snapshot": maintenance.snapshot(pb::SnapshotRequest {});
        "defragment": maintenance.defragment(pb::DefragmentRequest {});
        "member add": cluster.member_add(pb::MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()], is_learner: true });
        "member remove": cluster.member_remove(pb::MemberRemoveRequest { id: NO_MEMBER });
        "member update": cluster.member_update(pb::MemberUpdateRequest { id: NO_MEMBER, peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()] });
        "enable": auth.auth_enable(pb::AuthEnableRequest {});
        "disable": auth.auth_disable(pb::AuthDisableRequest {});
        "user add": auth.user_add(pb::AuthUserAddRequest { name: "eve".to_owned(), ..Default::default() });
        "user delete": auth.user_delete(pb::AuthUserDeleteRequest { name: "root".to_owned() });
        "user list": auth.user_list(pb::AuthUserListRequest {});
        "user get": auth.user_get(pb::AuthUserGetRequest { name: "root".to_owned() });
        "user passwd": auth.user_change_password(pb::AuthUserChangePasswordRequest { name: "root".to_owned(), password: "eve's".to_owned(), ..Default::default() });
        "user grant": auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: "ann".to_owned(), role: "root".to_owned() });
        "user revoke": auth.user_revoke_role(pb::AuthUserRevokeRoleRequest { name: "root".to_owned(), role: "root".to_owned() });
        "role add": auth.role_add(pb::AuthRoleAddRequest { name: "eves".to_owned() });
        "role delete": auth.role_delete(pb::AuthRoleDeleteRequest { role: "root".to_owned() });
        "role list": auth.role_list(pb::AuthRoleListRequest {});
        "role get": auth.role_get(pb::AuthRoleGetRequest { role: "root".to_owned() });
    };
    calls.into()
}

/// What any user may do.
fn users() -> Vec<Call> {
    let calls: [Call; 4] = calls! {
        "status": maintenance.status(pb::StatusRequest {});
        "alarms": maintenance.alarm(pb::AlarmRequest::default());
        "members": cluster.member_list(pb::MemberListRequest { linearizable: true });
        "grant": lease.lease_grant(pb::LeaseGrantRequest { id: 0, ttl: 60 });
    };
    calls.into()
}

async fn with_ann(member: &Member) -> [Session; 3] {
    let nobody = Session::nobody(member);
    nobody.add_user("ann", "ann's own").await;
    nobody.enable("root's own").await;
    let ann = Session::login(member, "ann", "ann's own").await;
    [nobody, ann, Session::login(member, "root", "root's own").await]
}

/// Insists that each call is refused so.
async fn refused(session: &Session, calls: &[Call], code: Code, text: &str) {
    for (name, call) in calls {
        let status = call(session.clone()).await.expect_err(name);
        assert_eq!((status.code(), status.message()), (code, text), "{name}");
    }
}

const EMPTY: &str = "etcdserver: user name is empty";
const DENIED: &str = "etcdserver: permission denied";

each_target! {
    ours;

    /// CVE-2026-33413: whoever says nothing was told of members, alarms and more. It is told that it has to say who it is, of everything;
    /// a stranger's token is no better than none.
    async fn nobody_learns_anything(member) {
        let [nobody, _, root] = with_ann(&member).await;
        refused(&nobody, &[roots(), users()].concat(), Code::InvalidArgument, EMPTY).await;
        let stranger = Session::with_token(&member, "AbCdEfGhIjKlMnOp.1");
        let token = "etcdserver: invalid auth token";
        refused(&stranger, &[roots(), users()].concat(), Code::Unauthenticated, token).await;
        let status = root.auth().auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
        assert!(status.enabled);
        assert_eq!(root.auth().user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users, ["ann", "root"]);
    }

    /// A user without rights may ask how the member is, and nothing that is root's.
    async fn a_user_is_no_administrator(member) {
        let [_, ann, root] = with_ann(&member).await;
        refused(&ann, &roots(), Code::PermissionDenied, DENIED).await;
        for session in [&ann, &root] {
            for (name, call) in users() {
                call(session.clone()).await.expect(name);
            }
        }
        let own = ann.auth().user_get(pb::AuthUserGetRequest { name: "ann".to_owned() }).await.unwrap();
        assert_eq!(own.into_inner().roles, [""; 0]);
    }
}

each_target! {
    everywhere;

    /// Which of the two is wrong, the name or the password, is not said.
    async fn a_wrong_name_and_a_wrong_password_are_told_alike(member) {
        with_ann(&member).await;
        for (name, password) in [("ann", "root's own"), ("ann", ""), ("eve", "ann's own"), ("", "")] {
            let status = member.authenticate(name, password).await.unwrap_err();
            let text = "etcdserver: authentication failed, invalid user ID or password";
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text), "{name:?}");
        }
    }

    /// A password that is changed ends what was begun with the old one.
    async fn another_password_takes_the_tokens_away(member) {
        let [_, ann, root] = with_ann(&member).await;
        let (name, password) = ("ann".to_owned(), "another".to_owned());
        let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
        root.auth().user_change_password(request).await.unwrap();
        let status = ann.kv().range(e2e::get("k")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "etcdserver: invalid auth token"));
        member.authenticate("ann", "ann's own").await.unwrap_err();
        member.authenticate("ann", "another").await.unwrap();
    }
}
