//! Tests of the queue: what must hold for any runs and limits, and who is next in cases small enough to see.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn waiting(uid: &str, namespace: &str, extension: &str, second: i64) -> Waiting {
    let created = Timestamp::from_second(1_700_000_000 + second).unwrap();
    Waiting { uid: uid.into(), namespace: namespace.into(), extension: extension.into(), created }
}

fn active(namespace: &str, extension: &str) -> Active {
    Active { namespace: namespace.into(), extension: extension.into() }
}

fn load(active: &[Active]) -> Load {
    Load { active: active.to_vec(), last_starts: BTreeMap::new() }
}

fn limits(operator: Option<u32>, extensions: &[(&str, u32)]) -> Limits {
    let extensions = extensions.iter().map(|&(name, most)| (name.to_owned(), most)).collect();
    Limits { operator, namespace: None, extensions }
}

fn limits_with_namespace(most: u32, limits: Limits) -> Limits {
    Limits { namespace: Some(most), ..limits }
}

#[test]
fn without_limits_everybody_starts() {
    let runs = [waiting("b", "n", "x", 1), waiting("a", "n", "x", 0)];
    assert_eq!(turns(&runs, &Load::default(), &Limits::default()).now, ["a", "b"]);
}

#[test]
fn the_namespace_with_the_fewest_active_runs_goes_first_and_then_the_oldest_run() {
    let runs = [
        waiting("a1", "a", "x", 0),
        waiting("a2", "a", "x", 1),
        waiting("a3", "a", "x", 2),
        waiting("b1", "b", "x", 3),
        waiting("c1", "c", "x", 4),
    ];
    assert_eq!(turns(&runs, &Load::default(), &limits(Some(4), &[])).now, ["a1", "b1", "c1", "a2"]);
    assert_eq!(
        turns(&runs, &load(&[active("b", "y"), active("b", "y")]), &limits(Some(5), &[])).now,
        ["a1", "c1", "a2"]
    );
}

#[test]
fn among_namespaces_with_as_many_active_runs_they_take_turns() {
    let runs = [waiting("a1", "a", "x", 0), waiting("a2", "a", "x", 1), waiting("b1", "b", "x", 9)];
    let mut load = Load::default();
    load.last_starts.insert("a".into(), Timestamp::from_second(1_700_000_020).unwrap());
    assert_eq!(turns(&runs, &load, &limits(Some(1), &[])).now, ["b1"]);
    load.last_starts.insert("b".into(), Timestamp::from_second(1_700_000_021).unwrap());
    assert_eq!(turns(&runs, &load, &limits(Some(1), &[])).now, ["a1"]);
}

#[test]
fn an_extension_at_its_limit_holds_up_no_other() {
    let runs = [waiting("1", "a", "full", 0), waiting("2", "a", "full", 1), waiting("3", "a", "free", 2)];
    let turns = turns(&runs, &load(&[active("b", "full")]), &limits(Some(2), &[("full", 1)]));
    assert_eq!(turns.now, ["3"]);
    let limit = Limit::Extension { name: "full".into(), most: 1 };
    assert_eq!(turns.later["1"], Place { position: 1, limit: limit.clone() });
    assert_eq!(turns.later["2"], Place { position: 2, limit });
}

#[test]
fn a_namespace_at_its_limit_holds_up_no_other_and_keeps_its_own_order() {
    let runs = [
        waiting("a2", "a", "x", 1),
        waiting("a1", "a", "y", 0),
        waiting("b1", "b", "x", 2),
        waiting("b2", "b", "x", 3),
        waiting("b3", "b", "x", 4),
    ];
    let load = load(&[active("a", "x"), active("a", "z")]);
    let turns = turns(&runs, &load, &limits_with_namespace(2, limits(Some(50), &[])));
    assert_eq!(turns.now, ["b1", "b2"]);
    let place = |name: &str, position| Place { position, limit: Limit::Namespace { name: name.into(), most: 2 } };
    let expected = [("a1", place("a", 1)), ("a2", place("a", 2)), ("b3", place("b", 1))];
    assert_eq!(turns.later, expected.map(|(uid, place)| (uid.to_owned(), place)).into());
}

#[test]
fn a_namespace_that_asks_for_everything_leaves_places_for_those_that_come_later() {
    let limits = limits_with_namespace(4, limits(Some(5), &[]));
    let mut runs: Vec<_> = (0..20).map(|number| waiting(&format!("{number:02}"), "greedy", "x", number)).collect();
    assert_eq!(turns(&runs, &Load::default(), &limits).now, ["00", "01", "02", "03"]);
    runs.drain(..4);
    runs.push(waiting("late", "quiet", "x", 100));
    assert_eq!(turns(&runs, &load(&vec![active("greedy", "x"); 4]), &limits).now, ["late"]);
}

#[test]
fn a_run_that_several_limits_hold_back_names_the_narrowest() {
    let full = load(&[active("a", "full"), active("a", "free")]);
    let limits = limits_with_namespace(2, limits(Some(2), &[("full", 1)]));
    for (run, expected) in [
        (
            waiting("1", "a", "full", 0),
            "queued at position 1: extension \"full\" runs 1 action at a time (spec.runtime.maxConcurrentRuns)",
        ),
        (
            waiting("1", "a", "free", 0),
            "queued at position 1: namespace \"a\" runs 2 actions at a time (--max-concurrent-runs-per-namespace)",
        ),
        (
            waiting("1", "b", "free", 0),
            "queued at position 1: the operator runs 2 actions at a time (--max-concurrent-runs)",
        ),
    ] {
        assert_eq!(turns(&[run], &full, &limits).later["1"].to_string(), expected);
    }
}

#[test]
fn places_are_those_in_the_line_for_the_limit_that_holds_a_run_back() {
    let runs = [
        waiting("1", "a", "full", 0),
        waiting("2", "a", "free", 1),
        waiting("3", "b", "free", 2),
        waiting("4", "b", "full", 3),
    ];
    let turns = turns(&runs, &load(&[active("a", "full")]), &limits(Some(1), &[("full", 1)]));
    let places: Vec<_> = turns.later.values().map(ToString::to_string).collect();
    assert_eq!(
        places,
        [
            "queued at position 2: extension \"full\" runs 1 action at a time (spec.runtime.maxConcurrentRuns)",
            "queued at position 2: the operator runs 1 action at a time (--max-concurrent-runs)",
            "queued at position 1: the operator runs 1 action at a time (--max-concurrent-runs)",
            "queued at position 1: extension \"full\" runs 1 action at a time (spec.runtime.maxConcurrentRuns)",
        ]
    );
}

#[test]
fn a_place_is_rewritten_after_ten_seconds_and_far_back_less_often() {
    let pause = |position| Place { position, limit: Limit::Operator { most: 2 } }.pause();
    assert_eq!((pause(1), pause(20), pause(1000)), (secs(10), secs(10), secs(500)));
    let writes_per_second: f64 = (1..=1000).map(|position| 1.0 / pause(position).as_secs_f64()).sum();
    assert!(writes_per_second < 10.0, "{writes_per_second}");
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn any_waiting() -> impl Strategy<Value = Vec<Waiting>> {
    prop::collection::vec(("[a-d]", "[x-z]", 0_i64..50), 0..40).prop_map(|runs| {
        let runs = runs.into_iter().enumerate();
        runs.map(|(uid, (namespace, extension, second))| waiting(&format!("{uid}"), &namespace, &extension, second))
            .collect()
    })
}

fn any_load() -> impl Strategy<Value = Load> {
    let starts = prop::collection::btree_map("[a-d]", 0_i64..50, 0..4);
    (prop::collection::vec(("[a-d]", "[x-z]"), 0..10), starts).prop_map(|(runs, starts)| Load {
        active: runs.iter().map(|(namespace, extension)| active(namespace, extension)).collect(),
        last_starts: starts.into_iter().map(|(name, at)| (name, Timestamp::from_second(at).unwrap())).collect(),
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let extensions = prop::collection::btree_map("[x-z]", 1_u32..5, 0..3);
    (prop::option::of(1_u32..12), prop::option::of(1_u32..6), extensions)
        .prop_map(|(operator, namespace, extensions)| Limits { operator, namespace, extensions })
}

fn has_room(active: &[Active], limits: &Limits, run: &Waiting) -> bool {
    let of_extension = active.iter().filter(|active| active.extension == run.extension).count();
    let of_namespace = active.iter().filter(|active| active.namespace == run.namespace).count();
    limits.operator.is_none_or(|most| active.len() < most as usize)
        && limits.namespace.is_none_or(|most| of_namespace < most as usize)
        && limits.extensions.get(&run.extension).is_none_or(|most| of_extension < *most as usize)
}

proptest! {
    #[test]
    fn every_run_is_told_exactly_one_thing(runs in any_waiting(), load in any_load(), limits in any_limits()) {
        let turns = turns(&runs, &load, &limits);
        let told: BTreeSet<&String> = turns.now.iter().chain(turns.later.keys()).collect();
        prop_assert_eq!(told.len(), runs.len());
        prop_assert_eq!(turns.now.len() + turns.later.len(), runs.len());
    }

    #[test]
    fn limits_are_never_exceeded_and_no_room_is_left_unused(
        runs in any_waiting(), load in any_load(), limits in any_limits()
    ) {
        let turns = turns(&runs, &load, &limits);
        let mut now = load.active;
        for uid in &turns.now {
            let run = runs.iter().find(|run| run.uid == *uid).unwrap();
            prop_assert!(has_room(&now, &limits, run));
            now.push(self::active(&run.namespace, &run.extension));
        }
        for run in runs.iter().filter(|run| turns.later.contains_key(&run.uid)) {
            prop_assert!(!has_room(&now, &limits, run), "{run:?} could start");
        }
    }

    #[test]
    fn the_answer_depends_on_no_order(runs in any_waiting(), load in any_load(), limits in any_limits()) {
        let (mut other_runs, mut other_load) = (runs.clone(), load.clone());
        other_runs.reverse();
        other_load.active.reverse();
        prop_assert_eq!(turns(&runs, &load, &limits), turns(&other_runs, &other_load, &limits));
    }

    #[test]
    fn of_one_namespace_and_extension_the_oldest_is_first(
        runs in any_waiting(), load in any_load(), limits in any_limits()
    ) {
        let turns = turns(&runs, &load, &limits);
        let place = |run: &Waiting| turns.later.get(&run.uid).map_or(0, |place| place.position);
        for (a, b) in runs.iter().flat_map(|a| runs.iter().map(move |b| (a, b))) {
            let is_alike = a.namespace == b.namespace && a.extension == b.extension;
            if is_alike && a.created < b.created {
                prop_assert!(place(a) <= place(b));
            }
        }
    }

    /// The others flood the line with runs, all of them older: it is no use.
    #[test]
    fn a_namespace_without_active_runs_is_passed_by_at_most_once_by_each_other(
        flood in prop::collection::vec("[b-d]", 1..20), most in 1_usize..4, of_namespace in prop::option::of(1_u32..4)
    ) {
        let limits = Limits { namespace: of_namespace, ..limits(u32::try_from(most).ok(), &[]) };
        let mut load = self::load(&vec![active("b", "x"); most]);
        let mut runs = vec![waiting("quiet", "a", "x", 100)];
        for ends in 1_i64.. {
            runs.extend(flood.iter().enumerate().map(|(n, namespace)| waiting(&format!("{ends}-{n}"), namespace, "x", 0)));
            load.active.remove(0);
            let now = turns(&runs, &load, &limits).now;
            if now.contains(&"quiet".to_owned()) {
                break;
            }
            prop_assert!(ends < 4, "passed by for the {ends}th time");
            for run in runs.extract_if(.., |run| now.contains(&run.uid)) {
                load.active.push(active(&run.namespace, &run.extension));
                load.last_starts.insert(run.namespace, Timestamp::from_second(1_700_001_000 + ends).unwrap());
            }
        }
    }

    #[test]
    fn places_are_the_order_in_which_all_would_start(runs in any_waiting(), load in any_load(), most in 1_u32..4) {
        let turns = turns(&runs, &load, &limits(Some(most), &[]));
        let mut later: Vec<(u32, String)> = turns.later.into_iter().map(|(uid, place)| (place.position, uid)).collect();
        later.sort();
        let told: Vec<String> = turns.now.into_iter().chain(later.into_iter().map(|(_, uid)| uid)).collect();
        prop_assert_eq!(told, self::turns(&runs, &load, &Limits::default()).now);
    }
}
