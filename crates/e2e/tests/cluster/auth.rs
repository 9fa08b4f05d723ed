//! Authentication in a cluster: every member decides alike, and every member knows the tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::authpb::{Permission, permission::Type};
use api::etcdserverpb as pb;
use futures_util::future::join_all;
use tonic::Code;

use crate::e2e::{Cluster, Member, Session, Shape, eventually, get, put, range};
use crate::faults;

const INVALID: &str = "etcdserver: invalid auth token";

/// Adds Ann, who may write `ann/...`, and enables authentication; root's token is what the cluster is asked with.
async fn enable(cluster: &mut Cluster) -> Session {
    prepare(&Session::nobody(&cluster[0])).await;
    let token = cluster[0].authenticate("root", "root's own").await.unwrap();
    cluster.show(&token);
    Session::with_token(&cluster[0], &token)
}

async fn prepare(nobody: &Session) {
    nobody.add_user("ann", "ann's own").await;
    nobody.add_role("anns").await;
    nobody.grant_role("ann", "anns").await;
    nobody.permit("anns", anns(Type::Readwrite)).await;
    nobody.enable("root's own").await;
}

fn anns(kind: Type) -> Permission {
    Permission { perm_type: kind.into(), key: "ann/".into(), range_end: "ann0".into() }
}

/// Waits until the token is as good at this member as it is said to be.
async fn told(member: &Member, token: &str, expected: Result<(), &str>) {
    let session = Session::with_token(member, token);
    eventually("what a member says to a token", async || {
        let answer = session.kv().range(get("ann/k")).await;
        let answer = answer.map(drop).map_err(|status| status.message().to_owned());
        (answer == expected.map_err(str::to_owned)).then_some(())
    })
    .await;
}

/// Everything that a member has, by its own account: the hash of its history, its keys, and who may do what.
async fn holds(member: &Member, token: &str, revision: i64) -> (u32, String, String) {
    let session = Session::with_token(member, token);
    let hash = session.maintenance().hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner();
    let all = pb::RangeRequest { serializable: true, ..range("\0", "\0") };
    let all = session.kv().range(all).await.unwrap().into_inner();
    let users = session.auth().user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users;
    let role = pb::AuthRoleGetRequest { role: "anns".to_owned() };
    let role = session.auth().role_get(role).await.unwrap().into_inner().perm;
    (hash.hash, format!("{:?}", all.kvs), format!("{users:?} {role:?}"))
}

/// Insists that all members are alike, at the revision that root's last write made.
async fn alike(cluster: &Cluster, through: &Session) {
    let written = through.kv().put(put("root/last", "")).await.unwrap().into_inner();
    let revision = written.header.unwrap().revision;
    let token = cluster[0].authenticate("root", "root's own").await.unwrap();
    for number in cluster.numbers() {
        // A read through the log: the member has applied what came before, the token among it.
        told(&cluster[number], &token, Ok(())).await;
    }
    let first = holds(&cluster[0], &token, revision).await;
    for number in 1..3 {
        assert_eq!(holds(&cluster[number], &token, revision).await, first, "member {number}");
    }
}

/// A client that puts again and again through one member, and says who it is when it has to.
async fn puts(place: Place, done: Arc<AtomicBool>, accepted: Arc<AtomicU64>, refused: Arc<AtomicU64>) {
    let mut session = place.nobody.clone();
    let key = format!("ann/{}", place.number);
    while !done.load(Ordering::Relaxed) {
        match session.kv().put(put(&key, "x")).await {
            Ok(_) => accepted.fetch_add(1, Ordering::Relaxed),
            Err(status) => {
                if ["etcdserver: user name is empty", INVALID].contains(&status.message()) {
                    let request =
                        pb::AuthenticateRequest { name: "ann".into(), password: "ann's own".into() };
                    if let Ok(answer) = place.nobody.auth().authenticate(request).await {
                        session = place.nobody.showing(&answer.into_inner().token);
                    } else {
                        session = place.nobody.clone();
                    }
                }
                refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Where a client puts.
struct Place {
    number: usize,
    nobody: Session,
}

faults! {
    both;

    /// #14571: entries that were proposed before authentication was enabled and applied after it were judged by some members with the rules
    /// of before. Here it is enabled and disabled, and rights come and go, while a client writes through each member.
    async fn enabling_auth_under_load_diverges_nobody(cluster) {
        let nobody = Session::nobody(&cluster[0]);
        prepare(&nobody).await;
        let root = Session::login(&cluster[0], "root", "root's own").await;
        let (done, accepted, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let clients: Vec<_> = (0..3).map(|number| {
            let place = Place { number, nobody: Session::nobody(&cluster[number]) };
            tokio::spawn(puts(place, Arc::clone(&done), Arc::clone(&accepted), Arc::clone(&refused)))
        }).collect();
        let goes_on = async |what: &str, count: &AtomicU64| {
            let until = count.load(Ordering::Relaxed) + 20;
            eventually(what, async || (count.load(Ordering::Relaxed) >= until).then_some(())).await;
        };
        let mut root = root;
        for _ in 0..3 {
            goes_on("puts with authentication", &accepted).await;
            root.permit("anns", anns(Type::Read)).await;
            goes_on("refused puts", &refused).await;
            root.permit("anns", anns(Type::Readwrite)).await;
            goes_on("puts with rights again", &accepted).await;
            root.auth().auth_disable(pb::AuthDisableRequest {}).await.unwrap();
            goes_on("puts without authentication", &accepted).await;
            nobody.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
            root = Session::login(&cluster[0], "root", "root's own").await;
        }
        done.store(true, Ordering::Relaxed);
        for client in join_all(clients).await {
            client.unwrap();
        }
        alike(cluster, &root).await;
    }

    /// A simple token is made known by an entry, so every member takes it, whoever leads.
    async fn a_leader_change_keeps_tokens(cluster) {
        enable(cluster).await;
        let follower = cluster.follower().await;
        let token = cluster[follower].authenticate("ann", "ann's own").await.unwrap();
        for number in cluster.numbers() {
            told(&cluster[number], &token, Ok(())).await;
        }
        let leader = cluster.leader().await;
        cluster[leader].kill();
        cluster.leader_other_than(leader).await;
        for number in cluster.running() {
            told(&cluster[number], &token, Ok(())).await;
        }
        cluster.launch(leader).await;
        let new = cluster[leader].authenticate("ann", "ann's own").await.unwrap();
        for number in cluster.numbers() {
            told(&cluster[number], &new, Ok(())).await;
        }
    }

    /// Whoever is deleted is a stranger at every member, token and all.
    async fn a_deleted_user_is_refused_everywhere(cluster) {
        let root = enable(cluster).await;
        let token = cluster[1].authenticate("ann", "ann's own").await.unwrap();
        for number in cluster.numbers() {
            told(&cluster[number], &token, Ok(())).await;
        }
        root.auth().user_delete(pb::AuthUserDeleteRequest { name: "ann".to_owned() }).await.unwrap();
        for number in cluster.numbers() {
            told(&cluster[number], &token, Err(INVALID)).await;
            let status = cluster[number].authenticate("ann", "ann's own").await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
        }
    }
}

faults! {
    ours;

    /// Users and roles are part of the state that a member is given when it was away for too long.
    async fn a_snapshot_brings_the_rules(cluster, Shape { snapshot_count: Some(50), catchup_entries: Some(20), ..Shape::default() }) {
        let away = cluster.follower().await;
        cluster[away].kill();
        let other = cluster.running()[0];
        prepare(&Session::nobody(&cluster[other])).await;
        let token = cluster[other].authenticate("root", "root's own").await.unwrap();
        cluster.show(&token);
        let root = Session::with_token(&cluster[other], &token);
        for number in 0..200 {
            root.kv().put(put("root/k", &number.to_string())).await.unwrap();
        }
        cluster.launch(away).await;
        let new = eventually("a member that knows root", async || {
            cluster[away].authenticate("root", "root's own").await.ok()
        })
        .await;
        told(&cluster[away], &new, Ok(())).await;
        let nobody = Session::nobody(&cluster[away]);
        let serializable = pb::RangeRequest { serializable: true, ..get("root/k") };
        let status = nobody.kv().range(serializable).await.unwrap_err();
        assert_eq!(status.message(), "etcdserver: user name is empty");
        let session = Session::with_token(&cluster[other], &new);
        alike(cluster, &session).await;
    }
}
