//! Looks whether what status calls installed is on the volume, unchanged.

use kube::ResourceExt as _;

use super::context::Context;
use super::failure::{Failure, Stage};
use super::plan;
use super::status::Before;
use super::volume::{Amount, on_volume, store_failure};
use crate::api::OrchestratorExtension;
use crate::digest::Digest;
use crate::store::layout::EXTENSIONS;
use crate::store::{ExtensionName, Store, StoreError};

/// What a look at the volume found.
pub struct Looked {
    /// Of what status calls installed.
    pub before: Before,
    /// Why nothing at all can be done on the volume now: it does not answer, is gone, or is another's.
    pub unusable: Option<Failure>,
}

/// Looks at the tree that status names, and at the link that leads there.
pub async fn look(extension: &OrchestratorExtension, context: &Context) -> Looked {
    let of = |before| Looked { before, unusable: None };
    let unusable =
        |failure: Failure| Looked { before: Before::Unreadable(failure.message.clone()), unusable: Some(failure) };
    let artifact = extension.status.as_ref().and_then(|status| status.artifact.as_ref());
    // Staging says what is wrong with the volume before the source is asked, but not before the server of a linked manifest is.
    if artifact.is_none() && extension.spec.manifest_url.is_none() {
        return of(Before::Nothing);
    }
    // Reading whole trees may take long: that the volume answers at all is soon known.
    let name = ExtensionName::parse(&extension.name_any()).ok();
    let asked_for = name.clone();
    let asked = move |store: &Store| match asked_for.map(|name| store.linked(&name)).transpose() {
        Ok(linked) => Ok(linked),
        // Installing says what is in the way, and where.
        Err(StoreError::ForeignFile { .. }) => Ok(None),
        Err(error) => Err(store_failure(Stage::Fetch, &error)),
    };
    let linked = match on_volume(context, extension, Amount::Little, asked).await.and_then(|answer| answer) {
        Ok(linked) => linked,
        Err(failure) => return unusable(failure),
    };
    let Some(artifact) = artifact else { return of(Before::Nothing) };
    let Ok(tree) = artifact.tree_digest.parse::<Digest>() else {
        return of(Before::Broken(format!("status names a tree {:?} that is no digest", artifact.tree_digest)));
    };
    let led = context.remember(extension.metadata.uid.as_deref().unwrap_or_default(), |memory| memory.led);
    let astray = linked.and_then(|linked| astray(&extension.name_any(), linked, &tree, led.as_ref()));
    match on_volume(context, extension, Amount::Trees, move |store| store.verify(&tree)).await {
        Ok(Ok(())) => match astray {
            None => of(Before::Intact),
            Some(what) => {
                lead_back(extension, context, name, tree).await;
                of(Before::Broken(what))
            }
        },
        Ok(Err(error)) if error.is_damage() => of(Before::Broken(error.to_string())),
        Ok(Err(error)) => of(Before::Unreadable(error.to_string())),
        Err(failure) => unusable(failure),
    }
}

/// Leads the link back to the tree that status names, which is whole: for that no source is needed. Why it cannot be done,
/// installing will say.
async fn lead_back(extension: &OrchestratorExtension, context: &Context, name: Option<ExtensionName>, tree: Digest) {
    let Some(name) = name.filter(|_| !plan::is_suspended(&extension.spec)) else { return };
    let _ = on_volume(context, extension, Amount::Little, move |store| store.link(&name, &tree)).await;
}

/// What is wrong with a link to `linked`, if status names `tree`. Status may be behind `led`, to which this process has led the
/// link itself; before it did, a former leader may have, who ended before he wrote the status.
fn astray(name: &str, linked: Option<Digest>, tree: &Digest, led: Option<&Digest>) -> Option<String> {
    match linked {
        Some(linked) if linked == *tree || led.is_none_or(|led| linked == *led) => None,
        Some(linked) => {
            Some(format!("{EXTENSIONS}/{name} was changed on the volume: it leads to tree {linked}, and not to {tree}"))
        }
        None => Some(format!("{EXTENSIONS}/{name} was removed from the volume: it does not lead to tree {tree}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_where_status_says_or_where_this_process_led_it() {
        let [tree, new, other] = ["tree", "new", "other"].map(Digest::of);
        assert_eq!(astray("x", Some(tree), &tree, None), None);
        assert_eq!(astray("x", Some(new), &tree, Some(&new)), None, "of which status is not written yet");
        assert_eq!(astray("x", Some(new), &tree, None), None, "or a former leader led it there");
        for led in [Some(&tree), Some(&new)] {
            let text = astray("x", Some(other), &tree, led).unwrap();
            assert_eq!(
                text,
                format!("extensions/x was changed on the volume: it leads to tree {other}, and not to {tree}")
            );
        }
        for led in [None, Some(&tree)] {
            assert!(astray("x", None, &tree, led).unwrap().starts_with("extensions/x was removed from the volume: "));
        }
    }
}
