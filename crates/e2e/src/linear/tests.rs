use super::*;

/// A call that took from one moment to another.
fn call(from: Moment, to: Moment, step: Step, revision: i64, outcome: Outcome) -> Call {
    let answer = Answer { succeeded: true, outcomes: vec![outcome] };
    let returned = Some(Return { at: to, revision, answer });
    Call {
        client: "c".to_owned(),
        called: from,
        request: Request::plain(step),
        serializable: false,
        returned,
    }
}

fn put(from: Moment, to: Moment, value: &str, revision: i64, before: Option<Found>) -> Call {
    call(from, to, Step::Put("k".to_owned(), value.to_owned()), revision, Outcome::Put(before))
}

fn get(from: Moment, to: Moment, revision: i64, found: Option<Found>) -> Call {
    call(from, to, Step::Get("k".to_owned()), revision, Outcome::Got(found))
}

fn delete(from: Moment, to: Moment, revision: i64, before: Option<Found>) -> Call {
    call(from, to, Step::Delete("k".to_owned()), revision, Outcome::Deleted(before))
}

fn unreturned(mut call: Call) -> Call {
    call.returned = None;
    call
}

fn found(value: &str, create_revision: i64, mod_revision: i64, version: i64) -> Found {
    Found { value: value.to_owned(), create_revision, mod_revision, version }
}

fn event(revision: i64, found: Option<Found>) -> Event {
    Event { revision, key: "k".to_owned(), found }
}

/// `k` is put, put again, deleted and put anew, by the revisions 2, 3, 5 and 6; 4 is another key's.
fn history() -> Vec<Event> {
    vec![
        event(2, Some(found("a", 2, 2, 1))),
        event(3, Some(found("b", 2, 3, 2))),
        event(5, None),
        event(6, Some(found("c", 6, 6, 1))),
    ]
}

fn writes_in_turn() -> Vec<Call> {
    vec![
        put(0, 10, "a", 2, None),
        put(20, 30, "b", 3, Some(found("a", 2, 2, 1))),
        delete(40, 50, 5, Some(found("b", 2, 3, 2))),
        put(60, 70, "c", 6, None),
    ]
}

fn with(more: impl IntoIterator<Item = Call>) -> Vec<Call> {
    writes_in_turn().into_iter().chain(more).collect()
}

#[test]
fn one_thing_after_the_other_is_linearizable() {
    let reads = [
        get(12, 14, 2, Some(found("a", 2, 2, 1))),
        get(32, 34, 3, Some(found("b", 2, 3, 2))),
        get(32, 34, 4, Some(found("b", 2, 3, 2))),
        get(52, 54, 5, None),
        get(72, 74, 9, Some(found("c", 6, 6, 1))),
    ];
    assert_eq!(check(&with(reads), &history(), &[(55, 5)]), Ok(()));
}

#[test]
fn calls_in_flight_together_may_come_in_any_order() {
    let both = [get(15, 35, 2, Some(found("a", 2, 2, 1))), get(15, 35, 3, Some(found("b", 2, 3, 2)))];
    assert_eq!(check(&with(both), &history(), &[]), Ok(()));
    // The later write began first.
    let swapped = vec![put(5, 30, "b", 3, Some(found("a", 2, 2, 1))), put(10, 20, "a", 2, None)];
    assert_eq!(check(&swapped, &history()[..2], &[]), Ok(()));
}

#[test]
fn a_read_of_the_past_is_stale() {
    let read = get(35, 38, 2, Some(found("a", 2, 2, 1)));
    let stale = check(&with([read.clone()]), &history(), &[]);
    assert!(matches!(stale, Err(Violation::Stale { seen: 3, .. })), "{stale:?}");
    // Asked for as such, it is none.
    let asked = Call { serializable: true, ..read };
    assert_eq!(check(&with([asked]), &history(), &[]), Ok(()));
}

#[test]
fn what_a_watcher_was_told_of_is_the_past_for_a_later_read() {
    // The write of revision 3 takes from 20 to 30.
    let read = |from| get(from, 28, 2, Some(found("a", 2, 2, 1)));
    assert_eq!(check(&with([read(22)]), &history(), &[(24, 3)]), Ok(()));
    let stale = check(&with([read(25)]), &history(), &[(24, 3)]);
    assert!(matches!(stale, Err(Violation::Stale { seen: 3, .. })), "{stale:?}");
}

#[test]
fn a_read_of_another_value_than_its_revision_has_is_wrong() {
    let read = get(32, 34, 3, Some(found("a", 2, 2, 1)));
    let wrong = check(&with([read]), &history(), &[]);
    assert!(matches!(wrong, Err(Violation::WrongAnswer { .. })), "{wrong:?}");
    let read = get(52, 54, 5, Some(found("b", 2, 3, 2)));
    let wrong = check(&with([read]), &history(), &[]);
    assert!(matches!(wrong, Err(Violation::WrongAnswer { .. })), "{wrong:?}");
}

#[test]
fn an_acknowledged_write_that_the_history_lacks_is_lost() {
    let lost = check(&with([put(80, 90, "d", 7, Some(found("c", 6, 6, 1)))]), &history(), &[]);
    assert!(matches!(lost, Err(Violation::Lost { .. })), "{lost:?}");
    // Taken over by another write at the same revision, as a leader without a quorum would have it.
    let mut calls = writes_in_turn();
    calls[3] = put(60, 70, "x", 6, None);
    let lost = check(&calls, &history(), &[]);
    assert!(matches!(lost, Err(Violation::OtherEvents { .. })), "{lost:?}");
}

#[test]
fn one_revision_is_not_made_twice() {
    let split = check(&with([put(62, 68, "x", 6, None)]), &history(), &[]);
    assert!(matches!(split, Err(Violation::OneRevisionTwice { revision: 6, .. })), "{split:?}");
}

#[test]
fn a_write_that_did_not_return_may_have_happened_or_not() {
    let mut calls = writes_in_turn();
    calls[1] = unreturned(calls[1].clone());
    calls[2] = unreturned(calls[2].clone());
    calls.push(unreturned(put(25, 25, "never", 0, None)));
    calls.push(unreturned(delete(75, 75, 0, None)));
    assert_eq!(check(&calls, &history(), &[]), Ok(()));
}

#[test]
fn a_write_that_did_not_return_happens_once_and_not_before_its_call() {
    let twice = [event(2, Some(found("a", 2, 2, 1))), event(3, Some(found("a", 2, 3, 2)))];
    let calls = [unreturned(put(0, 0, "a", 0, None))];
    assert_eq!(check(&calls, &twice[..1], &[]), Ok(()));
    let again = check(&calls, &twice, &[]);
    assert!(matches!(again, Err(Violation::Unexplained { .. })), "{again:?}");
    // Revision 3 was known when it was called, and it is revision 2.
    let late = [unreturned(put(40, 40, "a", 0, None))];
    let early = check(&late, &twice[..1], &[(35, 3)]);
    assert!(matches!(early, Err(Violation::Unexplained { .. })), "{early:?}");
}

#[test]
fn an_event_that_nobody_asked_for_is_unexplained() {
    let calls = &writes_in_turn()[..2];
    let unexplained = check(calls, &history()[..3], &[]);
    assert!(matches!(unexplained, Err(Violation::Unexplained { .. })), "{unexplained:?}");
}

#[test]
fn a_history_that_goes_back_cannot_be() {
    let mut history = history();
    history.swap(0, 1);
    let broken = check(&writes_in_turn(), &history, &[]);
    assert!(matches!(broken, Err(Violation::BrokenHistory { .. })), "{broken:?}");
}

/// Two transactions that each compare with what the other changes: only one order gives both their answers.
fn compared(answers: [(bool, Option<Found>); 2]) -> Vec<Call> {
    let [first, second] = answers;
    let txn = |from, value: &str, revision, (succeeded, before): (bool, Option<Found>)| Call {
        client: "t".to_owned(),
        called: from,
        request: Request {
            conditions: vec![Condition::ModRevision("k".to_owned(), 2)],
            then: vec![Step::Put("k".to_owned(), value.to_owned())],
            otherwise: vec![Step::Get("k".to_owned())],
        },
        serializable: false,
        returned: Some(Return {
            at: from + 10,
            revision,
            answer: Answer {
                succeeded,
                outcomes: vec![if succeeded { Outcome::Put(before) } else { Outcome::Got(before) }],
            },
        }),
    };
    vec![put(0, 10, "a", 2, None), txn(20, "b", 3, first), txn(21, "x", 3, second)]
}

#[test]
fn transactions_are_judged_by_the_store_at_their_revision() {
    let (a, b) = (found("a", 2, 2, 1), found("b", 2, 3, 2));
    let good = compared([(true, Some(a.clone())), (false, Some(b))]);
    assert_eq!(check(&good, &history()[..2], &[]), Ok(()));
    // The second saw the key as it was before the first, and yet did not succeed.
    let reordered = compared([(true, Some(a.clone())), (false, Some(a.clone()))]);
    let wrong = check(&reordered, &history()[..2], &[]);
    assert!(matches!(wrong, Err(Violation::WrongAnswer { .. })), "{wrong:?}");
    // Both believe that they were first.
    let both = compared([(true, Some(a.clone())), (true, Some(a))]);
    let wrong = check(&both, &history()[..2], &[]);
    assert!(matches!(wrong, Err(Violation::OneRevisionTwice { .. })), "{wrong:?}");
}

#[test]
fn a_compare_that_held_against_the_store_is_wrong() {
    let mut calls = compared([(true, Some(found("a", 2, 2, 1))), (false, Some(found("b", 2, 3, 2)))]);
    calls[1].request.conditions = vec![Condition::Value("k".to_owned(), "other".to_owned())];
    let wrong = check(&calls, &history()[..2], &[]);
    assert!(matches!(wrong, Err(Violation::WrongAnswer { .. })), "{wrong:?}");
}
