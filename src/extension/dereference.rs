//! Reads what the resource refers to: the source's Secret, and the linked manifest.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};

use super::context::Context;
use super::failure::{Failure, Stage};
use crate::api::{ALLOWED_ORIGINS, OrchestratorExtension, Reason};
use crate::manifest::{self, Manifest, Merged};
use crate::source::{Credentials, SourceUrl};

/// What the resource and what it refers to say together.
pub struct Inputs {
    /// Credentials for the source.
    pub credentials: Option<Credentials>,
    /// The manifest that `manifestURL` links to.
    pub linked: Option<Manifest>,
    /// Resource and linked manifest together; the tree's manifest comes later.
    pub merged: Merged,
}

/// Reads Secret and linked manifest.
pub async fn inputs(extension: &OrchestratorExtension, context: &Context) -> Result<Inputs, Failure> {
    let credentials = match extension.spec.source.as_ref().and_then(|source| source.secret_ref.as_ref()) {
        Some(reference) => Some(credentials(&reference.name, context).await?),
        None => None,
    };
    let linked = match &extension.spec.manifest_url {
        Some(url) => Some(linked_manifest(url, context).await?),
        None => None,
    };
    let merged = manifest::merge(&extension.spec, linked.as_ref(), None);
    Ok(Inputs { credentials, linked, merged })
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

async fn linked_manifest(url: &str, context: &Context) -> Result<Manifest, Failure> {
    let field = "spec.manifestURL";
    let parsed = SourceUrl::parse(url)
        .map_err(|fault| Failure::stalled(Stage::Resource, Reason::ValidationFailed, format!("{field}: {fault}")))?;
    let bytes =
        context.fetcher.fetch_text(&parsed, None).await.map_err(|error| Failure::fetch(&error).of_field(field))?;
    manifest::parse(&bytes, &parsed.to_string())
        .map_err(|problems| Failure::stalled(Stage::Resource, Reason::ManifestInvalid, problems.in_one_line()))
}
