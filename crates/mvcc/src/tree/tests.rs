use std::collections::BTreeMap;

use api::LeaseId;
use proptest::prelude::*;

use super::*;
use crate::Revision;

fn meta(n: i64) -> KeyMeta {
    KeyMeta {
        create_revision: n,
        mod_revision: Revision::new(n + 1, n % 7),
        version: n + 2,
        lease: LeaseId::new(if n % 3 == 0 { n } else { 0 }),
        value_size: 5,
    }
}

/// Compares everything that can be asked of a tree with what a plain map says.
fn check(tree: &Tree, model: &BTreeMap<Vec<u8>, KeyMeta>) {
    tree.check_invariants();
    assert_eq!(tree.len(), model.len());
    let all: Vec<(Vec<u8>, KeyMeta)> = tree.iter(0).map(|item| (item.key().to_vec(), item.meta())).collect();
    assert!(all.iter().map(|(k, m)| (k, m)).eq(model));
    for (rank, (key, meta)) in all.iter().enumerate() {
        assert_eq!((tree.rank(key), tree.get(key)), (rank, Some(*meta)));
        assert_eq!(tree.iter(rank).next().map(|item| item.key().to_vec()).as_ref(), Some(key));
    }
    assert!(tree.iter(all.len()).next().is_none());
    assert_eq!(tree.rank(b"\xff\xff"), all.len());
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Remove(prop::sample::Index),
    /// Takes a copy that must not change any more.
    Share,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (0u16..400).prop_map(|n| format!("/registry/pods/ns-{:02}/pod-{n}", n % 20).into_bytes()),
        1 => prop::collection::vec(prop::sample::select(b"/r\0z".to_vec()), 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_is_a_map_and_its_copies_stand_still(
        steps in prop::collection::vec(
            prop_oneof![6 => key().prop_map(Step::Put), 4 => any::<prop::sample::Index>().prop_map(Step::Remove),
                1 => Just(Step::Share)],
            0..600,
        )
    ) {
        let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for (n, step) in (1..).zip(steps) {
            match step {
                Step::Put(key) => {
                    let old = tree.upsert(&key, |_| meta(n));
                    prop_assert_eq!(old, model.insert(key, meta(n)));
                }
                Step::Remove(index) if !model.is_empty() => {
                    let key = model.keys().nth(index.index(model.len())).unwrap().clone();
                    prop_assert_eq!(tree.remove(&key), model.remove(&key));
                    prop_assert_eq!(tree.remove(&key), None);
                }
                Step::Remove(_) => {}
                Step::Share => copies.push((tree.clone(), model.clone())),
            }
        }
        check(&tree, &model);
        copies.iter().for_each(|(tree, model)| check(tree, model));
    }
}

#[test]
fn keys_in_any_order_make_the_same_map() {
    let keys: Vec<Vec<u8>> = (0..5000).map(|n| format!("key-{n:05}").into_bytes()).collect();
    let strides = [1, 4999, 7, 1237];
    for stride in strides {
        let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
        for step in 0..keys.len() {
            let at = step * stride % keys.len();
            tree.upsert(&keys[at], |_| meta(3));
            model.insert(keys[at].clone(), meta(3));
        }
        check(&tree, &model);
        for step in 0..keys.len() {
            let key = &keys[step * stride % keys.len()];
            assert_eq!(tree.remove(key), model.remove(key));
            if step % 500 == 0 {
                check(&tree, &model);
            }
        }
        check(&tree, &BTreeMap::new());
    }
}

#[test]
fn a_tree_built_from_sorted_keys_is_the_same_map() {
    for len in [0, 1, 55, 56, 57, 56 * 21, 56 * 21 + 1, 20_000] {
        let model: BTreeMap<Vec<u8>, KeyMeta> =
            (0..len).map(|n| (format!("key-{n:05}").into_bytes(), meta(n))).collect();
        let mut builder = Builder::default();
        model.iter().for_each(|(key, meta)| builder.push(key, meta));
        check(&builder.finish(), &model);
    }
}

#[test]
fn a_live_key_of_64_bytes_costs_less_than_100_bytes() {
    // Half of each key is shared with its neighbours, as in Kubernetes; half of it is not, and is spread evenly.
    let key = |n: u64| {
        format!("/registry/pods/namespace-{:03}/pod-{:032x}", n % 500, n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    let mut tree = Tree::default();
    for n in 0..50_000 {
        tree.upsert(key(n).as_bytes(), |_| KeyMeta { lease: LeaseId::NONE, ..meta(1) });
    }
    assert_eq!(key(0).len(), 65);
    let per_key = tree.memory_bytes() / tree.len();
    assert!(per_key < 100, "{per_key} bytes per key");
}
