//! Payloads are those of CloudStack, key by key.

use std::sync::LazyLock;

use super::*;

static NOTHING: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);
static NO_PARAMETERS: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

fn map(value: Value) -> BTreeMap<String, String> {
    serde_json::from_value(value).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn empty(kind: ActionKind) -> PayloadInput<'static> {
    PayloadInput {
        kind,
        action: "x",
        extension: &NOTHING,
        resourcemap: &NOTHING,
        host: &NOTHING,
        virtualmachine: &NOTHING,
        action_details: &NOTHING,
        resource_id: None,
        resource_name: None,
        vm: None,
        prepared: &NOTHING,
        prepared_nics: &[],
        caller: None,
        parameters: &NO_PARAMETERS,
    }
}

/// Everything given, for every kind of action.
fn full(kind: ActionKind, look: impl FnOnce(Value)) {
    let (extension, resourcemap) = (map(json!({"url": "https://pve"})), map(json!({"k": "v"})));
    let (host, virtualmachine) = (map(json!({"node": "pve1"})), map(json!({"template_id": "101"})));
    let action_details = map(json!({"vendor": "x"}));
    let vm = object(
        json!({"id": 45, "name": "i-2-45-VM", "minRam": 536870912, "details": {"proxmox_vmid": "1", "keep": "y"},
        "nics": [{"uuid": "n", "defaultNic": true, "broadcastUri": "vlan://1577"}]}),
    );
    let prepared = map(json!({"proxmox_vmid": "103", "External:maas_system_id": "abc"}));
    let parameters = object(json!({"snap_name": "s1"}));
    look(payload(&PayloadInput {
        kind,
        action: "CreateSnapshot",
        extension: &extension,
        resourcemap: &resourcemap,
        host: &host,
        virtualmachine: &virtualmachine,
        action_details: &action_details,
        resource_id: Some("6f1c"),
        resource_name: Some("i-2-45-VM"),
        vm: Some(&vm),
        prepared: &prepared,
        prepared_nics: &[],
        caller: Some(json!({"name": "admin"})),
        parameters: &parameters,
    }));
}

#[test]
fn a_custom_action_gets_every_key_in_cloudstacks_order() {
    full(ActionKind::Custom, |payload| {
        let expected = json!({
            "externaldetails": {
                "extension": {"url": "https://pve"},
                "resourcemap": {"k": "v"},
                "host": {"node": "pve1"},
                "virtualmachine": {"maas_system_id": "abc", "template_id": "101"},
                "action": {"vendor": "x"},
            },
            "virtualmachineid": "6f1c",
            "virtualmachinename": "i-2-45-VM",
            "cloudstack.vm.details": {
                "id": 45, "name": "i-2-45-VM", "minRam": 536870912,
                "details": {"proxmox_vmid": "103", "keep": "y", "External:maas_system_id": "abc", "External:template_id": "101"},
                "nics": [{"uuid": "n", "defaultNic": true, "broadcastUri": "vlan://1577"}], "uuid": "6f1c",
            },
            "caller": {"name": "admin"},
            "action": "CreateSnapshot",
            "parameters": {"snap_name": "s1"},
        });
        assert_eq!(payload, expected);
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&payload), keys(&expected));
        assert_eq!(keys(&payload["externaldetails"]), keys(&expected["externaldetails"]));
    });
}

#[test]
fn lifecycle_actions_get_neither_action_nor_parameters() {
    use LifecycleAction::{Create, Delete, GetConsole, Prepare, Reboot, Start, Status, Stop};
    for action in [Prepare, Create, Start, Stop, Reboot, Delete, Status, GetConsole] {
        full(ActionKind::Lifecycle(action), |payload| {
            assert!(payload.get("action").is_none() && payload.get("parameters").is_none(), "{action}");
            assert!(payload["externaldetails"].get("action").is_none(), "{action}");
            let vlan = matches!(action, Create | Start).then_some("1577");
            assert_eq!(
                payload["externaldetails"]["virtualmachine"].get("cloudstack.vlan").and_then(Value::as_str),
                vlan,
                "{action}"
            );
            assert_eq!(payload["virtualmachinename"], "i-2-45-VM", "{action}");
            let deploys = matches!(action, Prepare | Create).then_some("true");
            let details = &payload["cloudstack.vm.details"]["details"];
            assert_eq!(details.get("deployvm").and_then(Value::as_str), deploys, "{action}");
        });
    }
}

#[test]
fn statuses_gets_the_caller_and_three_sections() {
    full(ActionKind::Lifecycle(LifecycleAction::Statuses), |payload| {
        let expected = json!({
            "externaldetails": {"extension": {"url": "https://pve"}, "resourcemap": {"k": "v"}, "host": {"node": "pve1"}},
            "caller": {"name": "admin"},
        });
        assert_eq!(payload, expected);
    });
}

#[test]
fn what_is_empty_is_left_out() {
    let start = ActionKind::Lifecycle(LifecycleAction::Start);
    assert_eq!(payload(&empty(start)), json!({"externaldetails": {}}));
    assert_eq!(payload(&empty(ActionKind::Custom)), json!({"externaldetails": {}, "action": "x"}));
}

#[test]
fn an_instance_has_the_targets_name_and_id_unless_it_says_another() {
    let input = PayloadInput {
        resource_id: Some("6f1c"),
        resource_name: Some("blade-7"),
        ..empty(ActionKind::Lifecycle(LifecycleAction::Status))
    };
    assert_eq!(payload(&input)["cloudstack.vm.details"], json!({"name": "blade-7", "uuid": "6f1c"}));
    let vm = object(json!({"name": "i-2-9-VM", "cpus": 2}));
    let own = payload(&PayloadInput { vm: Some(&vm), ..input.clone() });
    assert_eq!(own["cloudstack.vm.details"], json!({"name": "i-2-9-VM", "cpus": 2, "uuid": "6f1c"}));
    let statuses = PayloadInput { kind: ActionKind::Lifecycle(LifecycleAction::Statuses), ..input };
    assert_eq!(payload(&statuses), json!({"externaldetails": {}}));
}

#[test]
fn external_details_are_in_both_places_wherever_they_were_given() {
    let vm = object(json!({"details": {"External:pool": "a", "External:size": 4, "External:slot": "1", "plain": "x",
        "External:gone": null}, "nics": [{"defaultNic": true, "broadcastUri": "vlan://7"}]}));
    let virtualmachine = map(json!({"slot": "2", "rack": "b"}));
    let prepared = map(json!({"External:rack": "c", "serial": "s"}));
    let built = payload(&PayloadInput {
        vm: Some(&vm),
        virtualmachine: &virtualmachine,
        prepared: &prepared,
        ..empty(ActionKind::Lifecycle(LifecycleAction::Create))
    });
    let section = &built["externaldetails"]["virtualmachine"];
    assert_eq!(*section, json!({"pool": "a", "size": "4", "slot": "2", "rack": "c", "cloudstack.vlan": "7"}));
    let details = json!({"External:pool": "a", "External:size": "4", "External:slot": "2", "External:rack": "c",
        "plain": "x", "serial": "s", "External:gone": null, "deployvm": "true"});
    assert_eq!(built["cloudstack.vm.details"]["details"], details);
}

#[test]
fn what_prepare_answered_makes_an_instance_of_its_own() {
    let prepared = map(json!({"id": "7"}));
    let strange = object(json!({"details": "none"}));
    let start = ActionKind::Lifecycle(LifecycleAction::Start);
    let input = PayloadInput { prepared: &prepared, ..empty(start) };
    assert_eq!(payload(&input)["cloudstack.vm.details"], json!({"details": {"id": "7"}}));
    let input = PayloadInput { prepared: &prepared, vm: Some(&strange), ..empty(start) };
    assert_eq!(payload(&input)["cloudstack.vm.details"], json!({"details": {"id": "7"}}));
}

#[test]
fn what_prepare_answered_of_a_nic_joins_the_one_with_its_uuid() {
    let vm = object(json!({"nics": [{"uuid": "a", "mac": "old", "ip": "10.0.0.1", "deviceId": 0}, {"uuid": "b"}]}));
    let nic = |uuid: &str, mac: &str| Nic { uuid: uuid.into(), mac: Some(mac.into()), ..Nic::default() };
    let input = PayloadInput {
        vm: Some(&vm),
        prepared_nics: &[nic("a", "bc:24:11:00:00:01"), nic("c", "bc:24:11:00:00:02")],
        ..empty(ActionKind::Lifecycle(LifecycleAction::Create))
    };
    let expected = json!([
        {"uuid": "a", "mac": "bc:24:11:00:00:01", "ip": "10.0.0.1", "deviceId": 0},
        {"uuid": "b"},
        {"uuid": "c", "mac": "bc:24:11:00:00:02"},
    ]);
    assert_eq!(payload(&input)["cloudstack.vm.details"]["nics"], expected);
    let none = PayloadInput { vm: None, ..input };
    assert_eq!(payload(&none)["cloudstack.vm.details"]["nics"].as_array().unwrap().len(), 2);
}

/// Every key that CloudStack sends with a custom action.
#[test]
fn cloudstacks_whole_payload_is_built_from_a_target() {
    let golden: Value = serde_json::from_str(include_str!("payload_golden.json")).unwrap();
    let section = |name: &str| map(golden["externaldetails"][name].clone());
    let (extension, resourcemap, host) = (section("extension"), section("resourcemap"), section("host"));
    let (virtualmachine, action_details) = (section("virtualmachine"), section("action"));
    let (vm, parameters) = (object(golden["cloudstack.vm.details"].clone()), object(golden["parameters"].clone()));
    let user =
        Caller { username: "admin".into(), uid: "2c4f0f5e-6d0c-4d8c-9d55-1a2b3c4d5e6f".into(), ..Caller::default() };
    let built = payload(&PayloadInput {
        action: "CreateSnapshot",
        extension: &extension,
        resourcemap: &resourcemap,
        host: &host,
        virtualmachine: &virtualmachine,
        action_details: &action_details,
        resource_id: golden["virtualmachineid"].as_str(),
        resource_name: golden["virtualmachinename"].as_str(),
        vm: Some(&vm),
        caller: Some(caller(&user, RoleType::Admin)),
        parameters: &parameters,
        ..empty(ActionKind::Custom)
    });
    assert_eq!(format!("{built:#}\n"), include_str!("payload_golden.json"), "key by key, in CloudStack's order");
}

#[test]
fn the_documentations_sample_is_built() {
    let virtualmachine = map(json!({"exttemplateid": "1"}));
    let (resourcemap, host, extension) = (map(json!({"a": "1"})), map(json!({"b": "2"})), map(json!({"c": "3"})));
    let vm = object(json!({"id": 100, "name": "i-2-100-VM"}));
    let input = PayloadInput {
        virtualmachine: &virtualmachine,
        resourcemap: &resourcemap,
        host: &host,
        extension: &extension,
        vm: Some(&vm),
        resource_id: Some("u"),
        resource_name: Some("i-2-100-VM"),
        ..empty(ActionKind::Lifecycle(LifecycleAction::Create))
    };
    let expected = json!({
        "externaldetails": {
            "resourcemap": {"a": "1"}, "virtualmachine": {"exttemplateid": "1"}, "host": {"b": "2"}, "extension": {"c": "3"},
        },
        "virtualmachineid": "u",
        "cloudstack.vm.details": {
            "id": 100, "name": "i-2-100-VM", "uuid": "u",
            "details": {"External:exttemplateid": "1", "deployvm": "true"},
        },
        "virtualmachinename": "i-2-100-VM",
    });
    assert_eq!(payload(&input), expected);
}

#[test]
fn the_caller_is_the_authenticated_user_in_the_granted_role() {
    let unnamed = caller(&Caller { username: "jane".into(), ..Caller::default() }, RoleType::User);
    assert!(unnamed.get("id").is_none() && unnamed["name"] == "jane", "what is empty is left out: {unnamed}");
    let user = Caller { username: "jane".into(), uid: "u-1".into(), groups: vec!["g".into()], ..Caller::default() };
    assert_eq!(
        caller(&user, RoleType::Admin),
        json!({"id": "u-1", "name": "jane", "type": "ADMIN", "roleid": "1", "rolename": "Root Admin", "roletype": "Admin"})
    );
    assert_eq!(caller(&user, RoleType::User)["type"], "NORMAL");
}
