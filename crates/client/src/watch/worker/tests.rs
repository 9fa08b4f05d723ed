//! What the worker makes of responses, without a stream.

use api::etcdserverpb::ResponseHeader;
use api::mvccpb::KeyValue;

use super::*;

type Handle = mpsc::UnboundedReceiver<Result<WatchResponse>>;

struct Bench {
    worker: Worker,
    session: Session,
    sent: mpsc::UnboundedReceiver<WatchRequest>,
}

impl Bench {
    fn new() -> Self {
        Self::with(crate::ConnectOptions::default())
    }

    fn with(options: crate::ConnectOptions) -> Self {
        let core = Arc::new(Core::new(options).unwrap());
        let (_, commands) = mpsc::unbounded_channel();
        let (requests, sent) = mpsc::unbounded_channel();
        Self {
            worker: Worker { core, commands, watches: BTreeMap::new(), logged_in: false },
            session: Session { requests, unconfirmed: VecDeque::new(), numbers: HashMap::new() },
            sent,
        }
    }

    fn create(&mut self, key: u64) -> Handle {
        let (events, handle) = mpsc::unbounded_channel();
        let request = WatchCreateRequest { key: "k".into(), ..Default::default() };
        let command = Command::Create { key: WatchKey(key), request, events };
        self.worker.obey(command, Some(&mut self.session));
        handle
    }

    fn answer(&mut self, response: WatchResponse) {
        self.worker.hand_on(response, &mut self.session);
    }

    fn start_revision(&self, key: u64) -> i64 {
        self.worker.watches[&WatchKey(key)].request.start_revision
    }
}

fn response(watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader { revision, ..Default::default() }),
        watch_id,
        ..Default::default()
    }
}

fn created(watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse { created: true, ..response(watch_id, revision) }
}

fn event(mod_revision: i64) -> Event {
    Event { kv: Some(KeyValue { mod_revision, ..Default::default() }), ..Default::default() }
}

fn cancels(bench: &mut Bench) -> Vec<i64> {
    std::iter::from_fn(|| bench.sent.try_recv().ok())
        .filter_map(|request| match request.request_union {
            Some(RequestUnion::CancelRequest(cancel)) => Some(cancel.watch_id),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_watch_resumes_one_revision_after_the_last_it_was_told_of() {
    let mut bench = Bench::new();
    let mut handle = bench.create(1);
    bench.answer(created(0, 5));
    assert_eq!(bench.start_revision(1), 6);
    // A replayed response: the header is ahead of the events.
    bench.answer(WatchResponse { events: vec![event(7), event(8)], ..response(0, 20) });
    assert_eq!(bench.start_revision(1), 9);
    bench.answer(response(0, 30));
    assert_eq!(bench.start_revision(1), 31);

    let revisions: Vec<i64> = std::iter::from_fn(|| handle.try_recv().ok())
        .map(|item| item.unwrap().header.unwrap().revision)
        .collect();
    assert_eq!(revisions, [5, 20, 30]);
}

#[tokio::test]
async fn a_second_confirmation_after_a_break_is_not_shown_to_the_reader() {
    let mut bench = Bench::new();
    let mut handle = bench.create(1);
    bench.answer(created(0, 5));
    bench.session.create(WatchKey(1), WatchCreateRequest::default());
    bench.answer(created(0, 9));
    assert_eq!(bench.start_revision(1), 6, "events between the two must not be skipped");
    assert!(handle.try_recv().unwrap().unwrap().created);
    assert!(handle.try_recv().is_err());
}

#[tokio::test]
async fn pieces_are_joined_and_do_not_move_the_revision_before_the_last() {
    let mut bench = Bench::new();
    let mut handle = bench.create(1);
    bench.answer(created(0, 1));
    bench.answer(WatchResponse { fragment: true, events: vec![event(2)], ..response(0, 2) });
    assert_eq!(bench.start_revision(1), 2);
    bench.answer(WatchResponse { events: vec![event(2)], ..response(0, 2) });
    assert_eq!(bench.start_revision(1), 3);
    handle.try_recv().unwrap().unwrap();
    assert_eq!(handle.try_recv().unwrap().unwrap().events.len(), 2);
}

#[tokio::test]
async fn a_refused_creation_belongs_to_the_oldest_unconfirmed_watch() {
    let mut bench = Bench::new();
    let mut first = bench.create(1);
    let mut second = bench.create(2);
    bench.answer(WatchResponse { canceled: true, cancel_reason: "no".into(), ..created(-1, 1) });
    bench.answer(created(0, 1));
    assert_eq!(first.try_recv().unwrap().unwrap_err().to_string(), "no");
    assert!(second.try_recv().unwrap().unwrap().created);
}

#[tokio::test]
async fn a_watch_given_up_before_its_confirmation_is_cancelled_at_it() {
    let mut bench = Bench::new();
    drop(bench.create(1));
    bench.worker.obey(Command::Cancel { key: WatchKey(1) }, Some(&mut bench.session));
    bench.answer(created(4, 1));
    assert_eq!(cancels(&mut bench), [4]);
}

#[tokio::test]
async fn a_compacted_watch_ends_and_the_server_is_told_to_forget_it() {
    let mut bench = Bench::new();
    let mut handle = bench.create(1);
    bench.answer(created(0, 5));
    bench.answer(WatchResponse { canceled: true, compact_revision: 3, ..response(0, 0) });
    handle.try_recv().unwrap().unwrap();
    assert_eq!(handle.try_recv().unwrap().unwrap_err().compact_revision(), Some(3));
    assert_eq!(cancels(&mut bench), [0]);
}

#[tokio::test]
async fn progress_of_the_stream_reaches_every_confirmed_watch() {
    let mut bench = Bench::new();
    let mut first = bench.create(1);
    let mut second = bench.create(2);
    bench.answer(created(0, 5));
    bench.answer(response(-1, 9));
    first.try_recv().unwrap().unwrap();
    assert_eq!(first.try_recv().unwrap().unwrap().header.unwrap().revision, 9);
    assert!(second.try_recv().is_err());
    assert_eq!(bench.start_revision(1), 10);
}

#[tokio::test]
async fn a_watch_refused_for_its_token_asks_for_one_login_if_there_is_a_user() {
    let reason = |text: &str| format!("rpc error: code = Unauthenticated desc = {text}");
    let refused =
        |text: &str| WatchResponse { canceled: true, cancel_reason: reason(text), ..created(-1, 1) };
    let stale = refused("etcdserver: invalid auth token");

    let mut nobody = Bench::new();
    nobody.create(0);
    assert!(!nobody.worker.refuses_token(&stale), "there is nobody to log in");

    let mut ann = Bench::with(crate::ConnectOptions::default().user("ann", "secret"));
    let mut handle = ann.create(0);
    assert!(ann.worker.refuses_token(&stale));
    assert!(
        !ann.worker.refuses_token(&refused("etcdserver: permission denied")),
        "another token changes nothing"
    );
    ann.worker.logged_in = true;
    assert!(!ann.worker.refuses_token(&stale), "a new token was refused as well");
    ann.answer(stale.clone());
    assert!(handle.try_recv().unwrap().unwrap_err().is(api::status::INVALID_AUTH_TOKEN));
    assert!(ann.worker.refuses_token(&stale), "the next watch may log in again");
}
