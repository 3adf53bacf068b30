//! What is asked, and what follows from every set of answers.

use serde_json::json;

use super::super::fixture;
use super::*;

fn run() -> ActionRun {
    let mut run = fixture::run();
    run["spec"]["action"] = json!("PowerOff");
    run["spec"]["caller"] = json!({"username": "alice", "uid": "u-1", "groups": ["team-a", "system:authenticated"],
        "extra": {"scopes": ["all"]}, "time": "t", "mac": "m"});
    serde_json::from_value(run).unwrap()
}

fn held(roles: &[RoleType]) -> Rights {
    Rights::Held(roles.iter().copied().map(Right::Role).collect())
}

#[test]
fn the_stamped_caller_is_asked_about_in_the_runs_namespace() {
    let run = run();
    let needed = needed(&run);
    let rights: Vec<_> = needed.iter().map(Right::attributes).collect();
    assert_eq!(
        rights,
        [
            ("outrigger.dev", "orchestratorextensions", "use", "redfish"),
            ("outrigger.dev", "extensiontargets", "use", "node7"),
            ("outrigger.dev", "roletypes", "use", "Admin"),
            ("outrigger.dev", "roletypes", "use", "ResourceAdmin"),
            ("outrigger.dev", "roletypes", "use", "DomainAdmin"),
            ("outrigger.dev", "roletypes", "use", "User"),
        ]
    );
    let review = needed[1].review(run.spec.caller.as_ref().unwrap(), "team-a");
    assert_eq!(
        serde_json::to_value(&review).unwrap()["spec"],
        json!({
            "user": "alice", "uid": "u-1", "groups": ["team-a", "system:authenticated"], "extra": {"scopes": ["all"]},
            "resourceAttributes": {"namespace": "team-a", "group": "outrigger.dev", "resource": "extensiontargets",
                "verb": "use", "name": "node7"},
        })
    );
    let mut with_secrets = run.clone();
    with_secrets.spec.parameters_from = serde_json::from_value(json!([
        {"name": "a", "secretKeyRef": {"name": "db", "key": "user"}}, {"name": "b", "secretKeyRef": {"name": "db", "key": "key"}},
    ]))
    .unwrap();
    let more = super::needed(&with_secrets);
    assert_eq!((more.len(), more[2].attributes()), (7, ("", "secrets", "get", "db")));
    let refusals = Rights::Held(vec![more[0].clone(), more[1].clone()]).refusals(&with_secrets);
    assert_eq!(
        (refusals.len(), refusals[0].message.as_str()),
        (
            1,
            "spec.parametersFrom: user \"alice\" may not read Secret \"db\" in namespace \"team-a\": grant the verb get on secrets \"db\" there"
        )
    );
    let mut without_target = run.clone();
    without_target.spec.target_ref = None;
    assert_eq!(super::needed(&without_target).len(), 5);
}

#[test]
fn a_target_given_in_place_needs_a_right_of_its_own_for_the_extension() {
    let mut run = run();
    run.spec.target_ref = None;
    run.spec.target = Some(Default::default());
    let needed = needed(&run);
    assert_eq!(needed[1].attributes(), ("outrigger.dev", "freeformtargets", "use", "redfish"));
    // The right to every ExtensionTarget does not give it.
    let held = [needed[0].clone(), Right::Target("redfish".into())];
    let refusals = Rights::Held(held.to_vec()).refusals(&run);
    let expected = "spec.target: user \"alice\" may not give a target in place to extension \"redfish\" in namespace \
         \"team-a\": name an ExtensionTarget in spec.targetRef, or grant the verb use on freeformtargets.outrigger.dev \
         \"redfish\" there";
    assert_eq!((refusals.len(), refusals[0].message.as_str()), (1, expected));
    assert_eq!(Rights::Held(needed[..2].to_vec()).refusals(&run), []);
}

#[test]
fn a_review_grants_only_by_an_answer_that_says_so() {
    let answered = |status: serde_json::Value| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {}, "status": status});
        is_granted(&serde_json::from_value(review).unwrap())
    };
    assert!(answered(json!({"allowed": true})));
    assert!(!answered(json!({"allowed": false})));
    assert!(!answered(json!({"allowed": true, "denied": true})));
    assert!(!is_granted(&SubjectAccessReview::default()));
}

#[test]
fn a_refusal_says_which_right_is_missing_and_how_it_is_given() {
    let refusals = held(&[RoleType::Admin]).refusals(&run());
    let messages: Vec<_> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "user \"alice\" may not use OrchestratorExtension \"redfish\" in namespace \"team-a\": bind ClusterRole \
         outrigger-tenant there, or grant the verb use on orchestratorextensions.outrigger.dev \"redfish\"",
            "user \"alice\" may not use ExtensionTarget \"node7\" in namespace \"team-a\": bind ClusterRole outrigger-tenant \
         there, or grant the verb use on extensiontargets.outrigger.dev \"node7\"",
        ]
    );
    assert!(refusals.iter().all(|refusal| refusal.reason == Reason::NotAllowed));
    let both = Rights::Held(vec![Right::Extension("redfish".into()), Right::Target("node7".into())]);
    assert_eq!(both.refusals(&run()), []);
    let other = Rights::Held(vec![Right::Extension("other".into()), Right::Target("node7".into())]);
    assert_eq!(other.refusals(&run()).len(), 1);
}

#[test]
fn a_custom_action_needs_one_of_the_role_types_that_it_allows() {
    use RoleType::{Admin, DomainAdmin, ResourceAdmin, User};
    let operators = Some(&[Admin, DomainAdmin][..]);
    for roles in [&[][..], &[User], &[ResourceAdmin, User]] {
        let refusal = held(roles).role(&run(), operators).unwrap_err();
        assert_eq!(refusal.reason, Reason::NotAllowed);
        assert_eq!(
            refusal.message,
            "user \"alice\" may not run action \"PowerOff\" of extension \"redfish\" in namespace \"team-a\", which needs the \
             role type Admin or DomainAdmin: bind ClusterRole outrigger-role-domainadmin there, or grant the verb use on \
             roletypes.outrigger.dev \"DomainAdmin\""
        );
    }
    for (roles, highest) in [
        (&[DomainAdmin][..], DomainAdmin),
        (&[User, DomainAdmin], DomainAdmin),
        (&[DomainAdmin, ResourceAdmin], ResourceAdmin),
        (&[User, Admin], Admin),
    ] {
        assert_eq!(held(roles).role(&run(), operators).unwrap(), highest, "{roles:?}");
    }
}

#[test]
fn a_lifecycle_action_needs_no_role_type_and_tells_the_highest() {
    assert_eq!(held(&[]).role(&run(), None).unwrap(), RoleType::User);
    assert_eq!(held(&[RoleType::User, RoleType::ResourceAdmin]).role(&run(), None).unwrap(), RoleType::ResourceAdmin);
}

#[test]
fn rights_that_were_not_asked_refuse_nothing_and_raise_nobody() {
    assert_eq!(Rights::NotAsked.refusals(&run()), []);
    assert_eq!(Rights::NotAsked.role(&run(), Some(&[RoleType::Admin])).unwrap(), RoleType::User);
}
