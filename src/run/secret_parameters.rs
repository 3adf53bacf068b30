//! Parameters from Secrets of the run's namespace: pure. What was read in, values by the parameters' names out.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;

use super::decide::Start;
use crate::api::{ActionRun, Reason};
use crate::validate::Refusal;

/// What reading a Secret gave.
#[derive(Clone, Debug)]
pub enum Read {
    /// It is there; its entries.
    Found(BTreeMap<String, ByteString>),
    /// There is none of that name.
    Missing,
    /// The operator itself may not read it.
    Forbidden,
}

/// The values of `spec.parametersFrom`.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretParameters {
    /// Not read: they count as given, and as nothing else. So it is before there is something to decide.
    NotRead,
    /// Read, by the parameters' names.
    Values(BTreeMap<String, String>),
    /// They cannot be had, now or ever.
    Refused(Start),
}

/// The values that the run asks for, from its Secrets by name. A Secret or entry that is not there yet is waited for.
pub fn values(run: &ActionRun, secrets: &BTreeMap<String, Read>) -> SecretParameters {
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let mut values = BTreeMap::new();
    for from in &run.spec.parameters_from {
        let (name, key) = (&from.secret_key_ref.name, &from.secret_key_ref.key);
        let secret = format!("Secret {name:?} in namespace {namespace:?}");
        let wait = |what: String| {
            SecretParameters::Refused(Start::Wait(Refusal::new(
                Reason::SecretNotUsable,
                format!("spec.parametersFrom: {what}"),
            )))
        };
        let found = match secrets.get(name) {
            Some(Read::Found(found)) => found,
            Some(Read::Forbidden) => return forbidden(&secret),
            Some(Read::Missing) | None => return wait(format!("{secret} does not exist")),
        };
        let Some(bytes) = found.get(key) else {
            return wait(format!("{secret} has no entry {key:?}"));
        };
        match std::str::from_utf8(&bytes.0) {
            Ok(text) => values.insert(from.name.clone(), text.to_owned()),
            Err(_) => return wait(format!("entry {key:?} of {secret} is not UTF-8 text")),
        };
    }
    SecretParameters::Values(values)
}

/// Reading tenants' Secrets is a right that the chart gives the operator only when it is told to.
fn forbidden(secret: &str) -> SecretParameters {
    let message = format!(
        "spec.parametersFrom: the operator may not read {secret}: install its chart with rbac.readTenantSecrets=true, or \
         grant the verb get on the Secret to the operator's service account"
    );
    SecretParameters::Refused(Start::Never(Refusal::new(Reason::SecretNotUsable, message)))
}

/// Without admission nobody knows whether the caller may read the Secret.
pub fn without_admission(run: &ActionRun) -> SecretParameters {
    if run.spec.parameters_from.is_empty() {
        return SecretParameters::Values(BTreeMap::new());
    }
    let message = "spec.parametersFrom: is refused, because the operator runs without admission and cannot know whether the \
                   caller may read the Secret";
    SecretParameters::Refused(Start::Never(Refusal::new(Reason::NotAllowed, message)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture;
    use super::*;

    fn run() -> ActionRun {
        let mut run = fixture::run();
        run["spec"]["parametersFrom"] = json!([{"name": "token", "secretKeyRef": {"name": "db", "key": "password"}}]);
        serde_json::from_value(run).unwrap()
    }

    fn read(read: Read) -> SecretParameters {
        values(&run(), &BTreeMap::from([("db".to_owned(), read)]))
    }

    fn found(data: serde_json::Value) -> Read {
        Read::Found(serde_json::from_value(data).unwrap())
    }

    fn said(parameters: SecretParameters) -> (bool, Reason, String) {
        match parameters {
            SecretParameters::Refused(Start::Wait(refusal)) => (true, refusal.reason, refusal.message),
            SecretParameters::Refused(Start::Never(refusal)) => (false, refusal.reason, refusal.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_is_taken_as_it_is() {
        let values = BTreeMap::from([("token".to_owned(), "hunter2\n".to_owned())]);
        assert_eq!(read(found(json!({"password": "aHVudGVyMgo=", "other": "eA=="}))), SecretParameters::Values(values));
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for() {
        for (result, expected) in [
            (Read::Missing, "spec.parametersFrom: Secret \"db\" in namespace \"team-a\" does not exist"),
            (found(json!({})), "spec.parametersFrom: Secret \"db\" in namespace \"team-a\" has no entry \"password\""),
            (
                found(json!({"password": "/w=="})),
                "spec.parametersFrom: entry \"password\" of Secret \"db\" in namespace \"team-a\" is not UTF-8 text",
            ),
        ] {
            assert_eq!(said(read(result)), (true, Reason::SecretNotUsable, expected.to_owned()));
        }
    }

    #[test]
    fn an_operator_that_may_not_read_it_says_what_to_switch() {
        let expected = "spec.parametersFrom: the operator may not read Secret \"db\" in namespace \"team-a\": install its chart \
                        with rbac.readTenantSecrets=true, or grant the verb get on the Secret to the operator's service \
                        account";
        assert_eq!(said(read(Read::Forbidden)), (false, Reason::SecretNotUsable, expected.to_owned()));
    }

    #[test]
    fn without_admission_no_secret_is_read_for_anybody() {
        assert_eq!(said(without_admission(&run())).1, Reason::NotAllowed);
        let without = serde_json::from_value(fixture::run()).unwrap();
        assert_eq!(without_admission(&without), SecretParameters::Values(BTreeMap::new()));
    }
}
