//! Reads what the resource refers to: the source's Secret or ConfigMap, the keys, and the linked manifest.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt as _};

use super::context::Context;
use super::failure::{Failure, Stage};
use crate::api::{ALLOWED_ORIGINS, OrchestratorExtension, Reason};
use crate::manifest::{self, Manifest};
use crate::signature::PublicKeys;
use crate::source::{ConfigMapFiles, Credentials, SourceUrl, Validators};
use crate::validate;

/// What the resource and what it refers to say together.
pub struct Inputs {
    /// Credentials for the source.
    pub credentials: Option<Credentials>,
    /// The ConfigMap that is the source.
    pub config_map: Option<ConfigMapFiles>,
    /// The manifest that `manifestURL` links to.
    pub linked: Option<Arc<Manifest>>,
    /// Where the files come from, by resource and linked manifest together; the tree's manifest comes later.
    pub source: validate::Source,
    /// The public keys that it must be signed with, if it must be.
    pub keys: Option<PublicKeys>,
}

/// A linked manifest that was fetched, and what its server recognises it by.
#[derive(Debug, Clone)]
pub struct Linked {
    url: String,
    validators: Validators,
    manifest: Arc<Manifest>,
}

/// Reads Secrets, ConfigMap and linked manifest.
pub async fn inputs(extension: &OrchestratorExtension, context: &Context) -> Result<Inputs, Failure> {
    let credentials = match extension.spec.source.as_ref().and_then(|source| source.secret_ref.as_ref()) {
        Some(reference) => Some(credentials(&reference.name, context).await?),
        None => None,
    };
    let config_map = match extension.spec.source.as_ref().and_then(|source| source.config_map_ref.as_ref()) {
        Some(reference) => Some(config_map(&reference.name, context).await?),
        None => None,
    };
    let linked = match &extension.spec.manifest_url {
        Some(url) => Some(linked_manifest(extension, url, context).await?),
        None => None,
    };
    let merged = manifest::merge(&extension.spec, linked.as_deref(), None);
    let source = validate::source(&merged.spec.source.clone().unwrap_or_default())
        .map_err(|problems| Failure::invalid(Stage::Resource, merged.locate(problems, linked.as_deref(), None)))?;
    let keys = keys(Some(&source), context).await?;
    Ok(Inputs { credentials, config_map, linked, source, keys })
}

async fn credentials(name: &str, context: &Context) -> Result<Credentials, Failure> {
    let where_ = format!("Secret {}/{name} of spec.source.secretRef", context.namespace);
    let api = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    let secret = api
        .get_opt(name)
        .await
        .map_err(|error| Failure::transient(Stage::Resource, Reason::ApiError, format!("reading {where_}: {error}")))?
        .ok_or_else(|| {
            Failure::transient(Stage::Resource, Reason::SecretNotUsable, format!("{where_} does not exist: create it"))
        })?;
    let origins = secret.annotations().get(ALLOWED_ORIGINS).cloned();
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Credentials::from_secret(name, &data, origins.as_deref())
        .map_err(|error| Failure::transient(Stage::Resource, Reason::SecretNotUsable, error.to_string()))
}

/// The public keys that `source` must be signed with, if it must be.
pub async fn keys(source: Option<&validate::Source>, context: &Context) -> Result<Option<PublicKeys>, Failure> {
    let Some(verify) = source.and_then(|source| source.verify.as_ref()) else { return Ok(None) };
    let where_ = format!("Secret {}/{} of spec.source.verify.secretRef", context.namespace, verify.secret);
    let api = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    let unusable = |message| Failure::transient(Stage::Trust, Reason::KeysUnusable, message);
    let secret = api
        .get_opt(&verify.secret)
        .await
        .map_err(|error| Failure::transient(Stage::Resource, Reason::ApiError, format!("reading {where_}: {error}")))?
        .ok_or_else(|| unusable(format!("{where_} does not exist: create it")))?;
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    let keys = PublicKeys::from_secret(verify.provider, &where_, &data);
    keys.map(Some).map_err(|fault| unusable(fault.to_string()))
}

async fn config_map(name: &str, context: &Context) -> Result<ConfigMapFiles, Failure> {
    let where_ = format!("ConfigMap {}/{name} of spec.source.configMapRef", context.namespace);
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), &context.namespace);
    let found = api
        .get_opt(name)
        .await
        .map_err(|error| Failure::transient(Stage::Fetch, Reason::ApiError, format!("reading {where_}: {error}")))?
        .ok_or_else(|| {
            Failure::transient(Stage::Fetch, Reason::NotFound, format!("{where_} does not exist: create it"))
        })?;
    let texts = found.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let binaries = found.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    Ok(ConfigMapFiles::new(name, texts.chain(binaries).collect()))
}

/// Downloads the linked manifest, unless its server says that it is still the one that is remembered.
async fn linked_manifest(
    extension: &OrchestratorExtension,
    url: &str,
    context: &Context,
) -> Result<Arc<Manifest>, Failure> {
    let field = "spec.manifestURL";
    let parsed = SourceUrl::parse(url)
        .map_err(|fault| Failure::stalled(Stage::Resource, Reason::ValidationFailed, format!("{field}: {fault}")))?;
    let uid = extension.metadata.uid.as_deref().unwrap_or_default();
    let known = context.memory(uid).linked.filter(|linked| linked.url == url);
    let validators = known.as_ref().map(|linked| &linked.validators);
    let fetched = context.fetcher.fetch_text_if_changed(&parsed, None, validators).await;
    let (bytes, validators) = match (fetched.map_err(|error| Failure::fetch(&error).of_field(field))?, known) {
        (None, Some(known)) => return Ok(known.manifest),
        (None, None) => {
            let message = format!("{field}: {parsed} was called unchanged, although none was known");
            return Err(Failure::transient(Stage::Fetch, Reason::FetchFailed, message));
        }
        (Some(fetched), _) => fetched,
    };
    context.metrics.fetched(bytes.len() as u64);
    let manifest = manifest::parse(&bytes, &parsed.to_string())
        .map_err(|problems| Failure::stalled(Stage::Resource, Reason::ManifestInvalid, problems.in_one_line()))?;
    let manifest = Arc::new(manifest);
    let linked = Linked { url: url.to_owned(), validators, manifest: manifest.clone() };
    context.remember(uid, |memory| memory.linked = Some(linked));
    Ok(manifest)
}
