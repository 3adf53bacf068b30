//! Reads and writes of a run at the API itself, never from a cache: what compare-and-swap rests on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::claim::{self, Claim};
use super::context::{Context, api_version, texts};
use super::decide::{self, Start};
use super::kept;
use super::request::{self, Answers, References, Request};
use super::rights::Rights;
use super::secret_parameters::{self, SecretParameters};
use super::{ask, report, retry, status, target_status, verdict};
use crate::action::Verdict;
use crate::admission::stamp;
use crate::api::run::ActionRunStatus;
use crate::api::{ActionRun, ExtensionTarget, MANAGED_BY_LABEL, MANAGER, RUN_UID_LABEL, Reason};
use crate::protocol::Outcome;

/// Why the entries of Secrets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// For people: names the Secret.
    #[error("{0}")]
    NotUsable(String),
    /// The API failed.
    #[error(transparent)]
    Api(#[from] Error),
}

/// Whether a write lost against another.
pub fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409)
}

/// Whether the object is not there.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Whether the API said that nothing was written.
pub(super) fn is_rejected(error: &Error) -> bool {
    matches!(error, Error::Api(status) if (400..500).contains(&status.code))
}

/// Whether the API will not take the request as it is, now or later: what a script printed breaks a rule or a quota, or
/// the namespace is being deleted.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422))
}

/// What the API calls the refusal. Its message may quote what it refused, so it is neither shown nor logged.
fn refusal(error: &Error) -> &str {
    match error {
        Error::Api(status) => &status.reason,
        _ => "",
    }
}

fn message_of(run: &ActionRun) -> String {
    run.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default()
}

/// The name of the Secret that holds what status of the run with this UID must not.
pub(super) fn result_secret(run_uid: &str) -> String {
    format!("arun-{run_uid}-result")
}

/// Whether an entry of a Secret may be called so.
fn is_entry_name(key: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=253).contains(&key.len()) && key.bytes().all(is_legal) && key != "." && !key.starts_with("..")
}

impl Context {
    fn runs(&self, namespace: &str) -> Api<ActionRun> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The run with this UID as it is now; `None` if it is gone. The cache only says where to look.
    ///
    /// # Errors
    /// The API's.
    pub async fn read(&self, uid: &str) -> Result<Option<ActionRun>, Error> {
        // Nothing but its metadata is needed, so a run that cannot be read is found, too.
        let place = match self.caches.runs.find(|guard| guard.meta().uid.as_deref() == Some(uid)) {
            Some(run) => Some((run.namespace().unwrap_or_default(), run.name_any())),
            None => {
                let all = Api::<ActionRun>::all(self.client.clone()).list_metadata(&ListParams::default()).await?;
                let found = all.items.into_iter().find(|run| run.metadata.uid.as_deref() == Some(uid));
                found.map(|run| (run.namespace().unwrap_or_default(), run.name_any()))
            }
        };
        let Some((namespace, name)) = place else { return Ok(None) };
        let run = self.runs(&namespace).get_opt(&name).await?;
        Ok(run.filter(|run| run.metadata.uid.as_deref() == Some(uid)))
    }

    /// The whole of a run of which the cache holds a part; `None` if it is gone.
    ///
    /// # Errors
    /// The API's.
    pub(super) async fn whole(&self, run: &ActionRun) -> Result<Option<ActionRun>, Error> {
        let found = self.runs(&run.namespace().unwrap_or_default()).get_opt(&run.name_any()).await?;
        Ok(found.filter(|found| found.metadata.uid == run.metadata.uid))
    }

    /// Replaces the status that `run` was read with. Fails with a conflict if the run changed since.
    ///
    /// # Errors
    /// The API's; a run of which only a part was kept is never written.
    pub async fn write(&self, run: &ActionRun, status: ActionRunStatus) -> Result<ActionRun, Error> {
        if kept::is_cut(run) {
            return Err(Error::Service("writing a status failed: only a part of the run is cached; read it".into()));
        }
        let new = ActionRun { status: Some(status), ..run.clone() };
        let namespace = run.namespace().unwrap_or_default();
        self.runs(&namespace).replace_status(&run.name_any(), &PostParams::default(), &new).await
    }

    /// The name of the Job that made the pod with this UID, if it is one of the run's.
    ///
    /// # Errors
    /// The API's.
    pub async fn job_of_pod(&self, run_uid: &str, pod_uid: &str) -> Result<Option<String>, Error> {
        let job = |pod: &Pod| super::view::pod(pod, &self.token(run_uid, 0)).job;
        let is_it = |pod: &Pod| pod.metadata.uid.as_deref() == Some(pod_uid);
        if let Some(pod) = self.pods(run_uid).iter().find(|pod| is_it(pod)) {
            return Ok(Some(job(pod)));
        }
        Ok(self.live_pods(run_uid).await?.iter().find(|pod| is_it(pod)).map(job))
    }

    /// The run's pods at the API.
    ///
    /// # Errors
    /// The API's.
    pub async fn live_pods(&self, run_uid: &str) -> Result<Vec<Pod>, Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.settings.operator.namespace);
        let labels = format!("{RUN_UID_LABEL}={run_uid}");
        Ok(pods.list(&ListParams::default().labels(&labels)).await?.items)
    }

    /// What the caller of a run may do now, and the parameters from Secrets. Without admission nobody knows who called, so
    /// nothing is asked, and no Secret is read.
    ///
    /// # Errors
    /// The API's.
    pub async fn ask(&self, run: &ActionRun) -> Result<Answers, Error> {
        let rights = match self.settings.insecure_without_admission {
            true => Rights::NotAsked,
            false => ask::rights(&self.client, run).await?,
        };
        self.answers(run, rights).await
    }

    /// What a claim needs: parameters from Secrets, and the rights again if the decision that asked for them is not
    /// [fresh](claim::is_fresh): its pod may have waited for days.
    ///
    /// # Errors
    /// The API's.
    pub async fn ask_for_claim(&self, run: &ActionRun, kind: Claim, now: Timestamp) -> Result<Answers, Error> {
        match kind == Claim::Again || claim::is_fresh(run, now) {
            true => self.answers(run, Rights::NotAsked).await,
            false => self.ask(run).await,
        }
    }

    async fn answers(&self, run: &ActionRun, rights: Rights) -> Result<Answers, Error> {
        let parameters = match self.settings.insecure_without_admission {
            true => secret_parameters::without_admission(run),
            // A spec that its caller's stamp does not fit names nothing that may be read.
            false if stamp::verify(&self.keys.stamp_key, run).is_err() => SecretParameters::NotRead,
            false => ask::secret_parameters(&self.client, run, &rights).await?,
        };
        Ok(Answers { rights, parameters })
    }

    /// Validates a run against what is in the caches.
    ///
    /// # Errors
    /// The API's, where the namespace's labels are needed.
    pub async fn request(&self, run: &ActionRun, answers: &Answers) -> Result<Result<Request, Start>, Error> {
        let (extension, target) = (self.extension(run), self.target(run));
        let namespace = run.namespace().unwrap_or_default();
        let selects =
            |target: &ExtensionTarget| request::needs_labels(target.spec.allowed_namespaces.as_ref(), &namespace);
        // Nothing is decided by the labels for a run that has ended: it is not worth a request.
        let mut namespace_labels = BTreeMap::new();
        if !decide::phase(run).is_finished() && target.as_ref().is_some_and(selects) {
            let found = Api::<Namespace>::all(self.client.clone()).get(&namespace).await?;
            namespace_labels = found.metadata.labels.unwrap_or_default();
        }
        let stamp = match self.settings.insecure_without_admission {
            true => Ok(()),
            false => stamp::verify(&self.keys.stamp_key, run),
        };
        let references = References {
            extension: extension.as_ref(),
            target: target.as_ref(),
            namespace_labels: &namespace_labels,
            stamp,
            answers,
        };
        Ok(request::request(run, &references, &self.settings.policy))
    }

    /// The entries of Secrets of the operator's namespace; later ones win over equal keys.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn entries(&self, names: &[String]) -> Result<BTreeMap<String, String>, SecretsError> {
        let namespace = &self.settings.operator.namespace;
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let mut entries = BTreeMap::new();
        for name in names {
            let Some(secret) = secrets.get_opt(name).await? else {
                let message = format!("Secret {name:?} does not exist in namespace {namespace:?}");
                return Err(SecretsError::NotUsable(message));
            };
            entries.extend(texts(secret).map_err(SecretsError::NotUsable)?);
        }
        Ok(entries)
    }

    /// Stores an authentic outcome. If another attempt follows, that is one write; otherwise first what it says of the target and what is secret, then the run's status, so that
    /// a crash in between repeats it all. Returns the written run. What the API refuses of it is left out, and the run
    /// says so: nothing that a script prints, and no quota, may keep a run from ending.
    ///
    /// # Errors
    /// The API's; a conflict means that the run must be read again.
    pub async fn conclude(&self, run: &ActionRun, outcome: &Outcome) -> Result<ActionRun, Error> {
        let outcome = &*report::as_it_was(run, outcome);
        let (extension, target) = (self.extension_as_pinned(run).await, self.target(run));
        let mut verdict = verdict::verdict(run, extension.as_ref(), target.as_ref(), outcome);
        if let Some(words) = self.eviction(run).filter(|_| verdict.reason == Reason::PodDeleted) {
            (verdict.reason, verdict.message) = (Reason::Evicted, format!("while the action ran, {words}"));
        }
        if let Some(number) = retry::follows(run, &verdict) {
            let status = status::retrying(run, &verdict, number, Timestamp::now());
            let written = self.write(run, status).await?;
            self.forget(run.metadata.uid.as_deref().unwrap_or_default());
            self.publish(&written, "Run", Reason::Retrying, &message_of(&written));
            return Ok(written);
        }
        if let Some(target) = &target {
            match self.update_target(&target.name_any(), run, outcome, &verdict).await {
                Err(error) if is_refused(&error) => {
                    tracing::warn!(reason = refusal(&error), "the API refused what a run says of its target");
                    verdict.lose(&format!("its target could not be updated: {}", refusal(&error)));
                }
                updated => updated?,
            }
        }
        let secret = match verdict.secret.clone() {
            Some(secret) => match self.keep_secret(run, &secret).await {
                Err(error) if is_refused(&error) || is_conflict(&error) => {
                    let refusal = refusal(&error);
                    tracing::warn!(reason = refusal, "the API refused the Secret of a result");
                    verdict.lose(&format!("the result is lost, the API refused the Secret for it: {refusal}"));
                    None
                }
                kept => Some(kept?),
            },
            None => None,
        };
        let status = status::concluded(run, &verdict, secret.as_deref(), Timestamp::now());
        let written = match self.write(run, status).await {
            Err(error) if is_refused(&error) => {
                tracing::warn!(reason = refusal(&error), "the API refused the status of a run that ended");
                verdict.result = None;
                (verdict.stdout_tail, verdict.stderr_tail) = (None, None);
                verdict.lose(&format!("result and output are lost, the API refused them: {}", refusal(&error)));
                self.write(run, status::concluded(run, &verdict, secret.as_deref(), Timestamp::now())).await?
            }
            written => written?,
        };
        self.forget(run.metadata.uid.as_deref().unwrap_or_default());
        self.publish(&written, "Run", verdict.reason, &verdict.message);
        Ok(written)
    }

    /// A compare-and-swap, in which what a later script found stands. A target that is gone is no loss.
    async fn update_target(
        &self,
        target: &str,
        run: &ActionRun,
        outcome: &Outcome,
        verdict: &Verdict,
    ) -> Result<(), Error> {
        let targets = Api::<ExtensionTarget>::all(self.client.clone());
        let Some(found) = targets.get_opt(target).await? else { return Ok(()) };
        let Some(status) = target_status::after(&found, run, outcome, verdict) else { return Ok(()) };
        let metadata = json!({"resourceVersion": found.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        match targets.patch_status(target, &PatchParams::default(), &patch).await {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts a secret result into a Secret beside the run, which owns it. Its name holds the run's UID, which whoever may
    /// create Secrets there can read while the script runs: what has the name already gives way. It may also be this result,
    /// from a write that was followed by no other.
    async fn keep_secret(&self, run: &ActionRun, value: &Value) -> Result<String, Error> {
        let uid = run.metadata.uid.clone().unwrap_or_default();
        let name = result_secret(&uid);
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let entries: BTreeMap<String, String> = match value {
            Value::Object(map) if map.keys().all(|key| is_entry_name(key)) => {
                map.iter().map(|(key, value)| (key.clone(), text(value))).collect()
            }
            other => BTreeMap::from([("result".to_owned(), text(other))]),
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([
                    (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned()),
                    (RUN_UID_LABEL.to_owned(), uid.clone()),
                ])),
                owner_references: Some(vec![OwnerReference {
                    api_version: api_version(),
                    kind: "ActionRun".into(),
                    name: run.name_any(),
                    uid,
                    ..Default::default()
                }]),
                ..Default::default()
            },
            string_data: Some(entries),
            ..Default::default()
        };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &run.namespace().unwrap_or_default());
        match secrets.create(&PostParams::default(), &secret).await {
            Err(error) if is_conflict(&error) => {
                self.delete_secret(run).await?;
                secrets.create(&PostParams::default(), &secret).await.map(|_| name)
            }
            created => created.map(|_| name),
        }
    }

    /// Deletes the Secret beside a run that holds its secret result, or what has its name.
    ///
    /// # Errors
    /// The API's.
    pub(super) async fn delete_secret(&self, run: &ActionRun) -> Result<(), Error> {
        let name = result_secret(run.metadata.uid.as_deref().unwrap_or_default());
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &run.namespace().unwrap_or_default());
        match secrets.delete(&name, &DeleteParams::default()).await {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
