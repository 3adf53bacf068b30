//! A look after an extension whose installed tree was changed from outside.

use serde_json::Value;

use super::super::fixture::{CONFIG_MAP, Fixture};

fn status_of(object: &Value, type_: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_);
    found.map_or("none".to_owned(), |condition| condition["status"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_was_changed_from_outside_is_repaired_and_told_once_each_time() {
    let fixture = Fixture::installed().await;
    for _ in 0..2 {
        fixture.damage();
        let during = fixture.seen_at(CONFIG_MAP);
        fixture.look().await;
        let during = during.lock().unwrap()[0].clone();
        assert_eq!(
            ["Installed", "Ready", "Reconciling"].map(|type_| status_of(&during, type_)),
            ["False", "Unknown", "True"]
        );
        assert_eq!(fixture.script(), "#!/bin/sh\necho one\n");
        assert_eq!(
            (fixture.shown("Ready"), fixture.shown("Reconciling")),
            ("True Succeeded".into(), "none none".into())
        );
        assert_eq!(fixture.shown("Installed"), "True Succeeded");
    }
    let events = fixture.events().await;
    let drifted: Vec<_> = events.iter().filter(|event| event.starts_with("Drifted: ")).collect();
    assert!(!drifted.is_empty() && drifted.iter().all(|event| event.contains("run.sh")), "{events:?}");
    let told = fixture.api.log().iter().filter(|line| line.contains("/events")).count();
    assert_eq!(told, 3, "one installation, two repairs: {:?}", fixture.api.log());
}

#[tokio::test]
async fn damage_is_found_while_slow_sources_take_all_turns_at_fetching() {
    let fixture = Fixture::installed().await;
    fixture.damage();
    let turn = fixture.context.fetches.acquire().await.unwrap();
    let found = async {
        while fixture.shown("Installed") != "False Drifted" {
            tokio::task::yield_now().await;
        }
        assert!(fixture.script().contains("changed"), "the repair waits for its turn");
        drop(turn);
    };
    tokio::join!(fixture.look(), found);
    assert_eq!(
        (fixture.shown("Installed"), fixture.shown("Ready")),
        ("True Succeeded".into(), "True Succeeded".into())
    );
}

#[tokio::test]
async fn damage_that_cannot_be_repaired_is_told_once() {
    let fixture = Fixture::installed().await;
    fixture.damage();
    fixture.api.remove(CONFIG_MAP);
    for _ in 0..3 {
        fixture.look().await;
        assert_eq!(
            (fixture.shown("Installed"), fixture.shown("Ready")),
            ("False Drifted".into(), "False NotFound".into())
        );
    }
    let events = fixture.events().await;
    assert_eq!(events.iter().filter(|event| event.starts_with("Drifted: ")).count(), 1, "{events:?}");
    let told = fixture.api.log().iter().filter(|line| line.contains("/events")).count();
    assert_eq!(told, 3, "installed, drifted, not found: {:?}", fixture.api.log());
}

#[tokio::test]
async fn a_pinned_revision_is_repaired_from_a_source_that_still_has_it_and_else_says_so() {
    let fixture = Fixture::installed().await;
    fixture.set("revision", fixture.status()["artifact"]["treeDigest"].clone());
    fixture.damage();
    fixture.look().await;
    assert_eq!((fixture.shown("Ready"), fixture.script()), ("True Succeeded".into(), "#!/bin/sh\necho one\n".into()));

    fixture.damage();
    fixture.serve("two");
    fixture.look().await;
    assert_eq!(
        (fixture.shown("Stalled"), fixture.shown("Installed")),
        ("True RevisionNotKept".into(), "False Drifted".into())
    );
    let message = fixture.message("Ready");
    assert!(
        message.contains("run.sh")
            && message.contains("and cannot be repaired: the source is at configmap/scripts@sha256:"),
        "{message}"
    );
    fixture.serve("one");
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
}

#[tokio::test]
async fn damage_of_a_suspended_extension_is_told_once() {
    let fixture = Fixture::installed().await;
    fixture.set("suspend", true.into());
    fixture.damage();
    fixture.look().await;
    fixture.events().await;
    let told = || fixture.api.log().iter().filter(|line| line.contains("/events")).count();
    let at_first = told();
    fixture.look().await;
    assert_eq!(fixture.events().await.iter().filter(|event| event.starts_with("Drifted: ")).count(), 1);
    assert_eq!(told(), at_first);
}

/// Something else at the link of the installed extension: nothing, or a link to another tree.
fn lead_astray(fixture: &Fixture, target: Option<&str>) {
    let link = fixture.file("");
    let link = std::path::Path::new(link.to_str().unwrap().trim_end_matches('/'));
    std::fs::remove_file(link).unwrap();
    if let Some(target) = target {
        std::os::unix::fs::symlink(target, link).unwrap();
    }
}

#[tokio::test]
async fn a_link_that_was_removed_or_leads_to_another_tree_is_led_back_and_told_once() {
    let fixture = Fixture::installed().await;
    let former = std::fs::read_link(fixture.directory.path().join("extensions/probe")).unwrap();
    fixture.serve("two");
    fixture.look().await;
    let events = fixture.events().await;
    assert!(!events.iter().any(|event| event.starts_with("Drifted")), "{events:?}");
    for target in [None, former.to_str()] {
        lead_astray(&fixture, target);
        let during = fixture.seen_at(CONFIG_MAP);
        fixture.look().await;
        let during = during.lock().unwrap()[0].clone();
        assert_eq!(["Installed", "Ready"].map(|type_| status_of(&during, type_)), ["False", "Unknown"]);
        assert_eq!(fixture.script(), "#!/bin/sh\necho two\n");
        assert_eq!(
            (fixture.shown("Ready"), fixture.shown("Installed")),
            ("True Succeeded".into(), "True Succeeded".into())
        );
        fixture.look().await;
    }
    let events = fixture.events().await;
    let drifted: Vec<_> = events.iter().filter(|event| event.starts_with("Drifted: extensions/probe was ")).collect();
    assert_eq!(drifted.len(), 2, "{events:?}");
}

#[tokio::test]
async fn a_link_is_led_back_to_a_whole_tree_also_while_its_source_is_away() {
    let fixture = Fixture::installed().await;
    lead_astray(&fixture, None);
    fixture.api.remove(CONFIG_MAP);
    fixture.look().await;
    assert_eq!(fixture.script(), "#!/bin/sh\necho one\n");
    assert_eq!(fixture.shown("Ready"), "False NotFound");
    fixture.look().await;
    assert_eq!(fixture.shown("Installed"), "True Succeeded");
}

#[tokio::test]
async fn a_link_of_a_suspended_extension_that_leads_nowhere_is_said_and_left() {
    let fixture = Fixture::installed().await;
    fixture.set("suspend", true.into());
    lead_astray(&fixture, None);
    fixture.look().await;
    assert_eq!(
        (fixture.shown("Ready"), fixture.shown("Installed")),
        ("False Suspended".into(), "False Drifted".into())
    );
    assert!(!fixture.directory.path().join("extensions/probe").exists());
}
