//! Where a symbolic link leads within a tree. Pure.

use std::collections::BTreeMap;

/// What lies at a path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link and its target, as written.
    Link(String),
}

/// The nodes of a tree by their paths; the root itself has no entry.
pub(crate) type Nodes = BTreeMap<String, Node>;

/// Why a link is refused. The text follows the link's name and target in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The target begins with `/`.
    #[error("the target is absolute; only relative targets within the tree are allowed")]
    Absolute,
    /// `..` leads above the root, in the text or on the way through other links.
    #[error("the target is outside the tree; only relative targets within the tree are allowed")]
    Escapes,
    /// Nothing lies there.
    #[error("the target does not exist in the tree")]
    Dangling,
    /// The links lead in a circle, or through more than 40 of them, where Linux gives up too.
    #[error("the links lead in a circle or through too many others")]
    Loop,
    /// Empty, too long, not UTF-8, or with a NUL, backslash or control character.
    #[error("the target is no usable path")]
    Malformed,
}

/// Links that are followed before giving up, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Components that are looked at before giving up; bounds the time that a hostile web of links costs.
const MAX_STEPS: usize = 1024;

/// Whether the link at `path` stays within the tree. It may lead to nothing: repositories have links that broke when a
/// directory moved, a tree never gets another entry, and so nothing can be reached through one.
///
/// # Errors
/// The [`LinkFault`] if it leads outside or in a circle.
pub(crate) fn check_link(nodes: &Nodes, path: &str, target: &str) -> Result<(), LinkFault> {
    let parent: Vec<&str> = super::path::split(path).0.map(|p| p.split('/').collect()).unwrap_or_default();
    check_text(parent.len(), target)?;
    match walk(nodes, parent, target, 1) {
        Ok(_) | Err(LinkFault::Dangling) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// The node at `path`, links on the way and at its end followed: its path, empty for the root.
///
/// # Errors
/// The [`LinkFault`] if it leads outside, nowhere or in a circle.
pub(crate) fn resolve(nodes: &Nodes, path: &str) -> Result<String, LinkFault> {
    walk(nodes, Vec::new(), path, 0)
}

/// Whether the text alone, without a look at the tree, leads out of it.
fn check_text(mut depth: usize, target: &str) -> Result<(), LinkFault> {
    if target.starts_with('/') {
        return Err(LinkFault::Absolute);
    }
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or(LinkFault::Escapes)?,
            _ => depth += 1,
        }
    }
    Ok(())
}

fn walk<'a>(nodes: &'a Nodes, start: Vec<&'a str>, target: &'a str, links: usize) -> Result<String, LinkFault> {
    let mut at = start;
    let mut links = links;
    let mut rest: Vec<&str> = target.split('/').rev().collect();
    for _ in 0..MAX_STEPS {
        let Some(component) = rest.pop() else {
            return Ok(at.join("/"));
        };
        match component {
            "" | "." => continue,
            ".." => {
                at.pop().ok_or(LinkFault::Escapes)?;
                continue;
            }
            name => at.push(name),
        }
        match nodes.get(&at.join("/")) {
            Some(Node::Directory) => {}
            Some(Node::File) if rest.is_empty() => {}
            Some(Node::Link(next)) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(LinkFault::Loop);
                }
                if next.starts_with('/') {
                    return Err(LinkFault::Absolute);
                }
                at.pop();
                rest.extend(next.split('/').rev());
            }
            Some(Node::File) | None => return Err(beyond(at.len(), &rest)),
        }
    }
    Err(LinkFault::Loop)
}

/// What is wrong with the path `rest` (last component first) beyond a node at `depth` that is not there.
fn beyond(mut depth: usize, rest: &[&str]) -> LinkFault {
    for component in rest.iter().rev() {
        match *component {
            "" | "." => {}
            ".." if depth == 0 => return LinkFault::Escapes,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    LinkFault::Dangling
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(&str, &str)]) -> Nodes {
        let node = |kind: &str| match kind {
            "dir" => Node::Directory,
            "file" => Node::File,
            target => Node::Link(target.to_owned()),
        };
        nodes.iter().map(|(path, kind)| ((*path).to_owned(), node(kind))).collect()
    }

    fn led(nodes: &[(&str, &str)], path: &str) -> Result<String, LinkFault> {
        let nodes = tree(nodes);
        let Some(Node::Link(target)) = nodes.get(path) else { panic!("{path} is no link") };
        check_link(&nodes, path, target)?;
        resolve(&nodes, path)
    }

    #[test]
    fn links_within_the_tree_are_followed_to_their_end() {
        let nodes = [("a", "dir"), ("a/f", "file"), ("b", "a"), ("a/l", "../b/f"), ("up", "a/.."), ("c", "./a/l")];
        assert_eq!(led(&nodes, "a/l"), Ok("a/f".into()));
        assert_eq!(led(&nodes, "b"), Ok("a".into()));
        assert_eq!(led(&nodes, "c"), Ok("a/f".into()));
        assert_eq!(led(&nodes, "up"), Ok(String::new()));
        assert_eq!(resolve(&tree(&nodes), "b/l"), Ok("a/f".into()));
    }

    #[test]
    fn links_that_leave_the_tree_are_refused() {
        assert_eq!(led(&[("l", "/etc/passwd")], "l"), Err(LinkFault::Absolute));
        assert_eq!(led(&[("l", "../x")], "l"), Err(LinkFault::Escapes));
        assert_eq!(led(&[("a", "dir"), ("a/l", "../../x")], "a/l"), Err(LinkFault::Escapes));
        assert_eq!(led(&[("a", "dir"), ("a/l", "x/../../../a")], "a/l"), Err(LinkFault::Escapes));
    }

    #[test]
    fn a_link_that_only_leaves_through_another_link_is_refused() {
        let nodes = [("a", "dir"), ("a/b", "dir"), ("a/b/c", "dir"), ("top", "a/.."), ("a/b/c/l", "../../../top/../f")];
        assert_eq!(led(&nodes, "a/b/c/l"), Err(LinkFault::Escapes));
    }

    #[test]
    fn a_link_to_nothing_stays_and_leads_nowhere() {
        for nodes in [&[("l", "x")][..], &[("f", "file"), ("l", "f/x")], &[("l", "gone/../x")]] {
            let nodes = tree(nodes);
            let Some(Node::Link(target)) = nodes.get("l") else { panic!("l is no link") };
            assert_eq!(check_link(&nodes, "l", target), Ok(()));
            assert_eq!(resolve(&nodes, "l"), Err(LinkFault::Dangling));
        }
    }

    #[test]
    fn a_link_to_nothing_that_would_leave_the_tree_is_refused() {
        // the text of each link alone stays within; followed one after the other they would not
        let nodes = [("a", "dir"), ("a/b", "dir"), ("top", "a/.."), ("a/b/l", "../../top/gone/../../../x")];
        assert_eq!(led(&nodes, "a/b/l"), Err(LinkFault::Escapes));
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        assert_eq!(led(&[("l", "l")], "l"), Err(LinkFault::Loop));
        assert_eq!(led(&[("a", "b"), ("b", "a")], "a"), Err(LinkFault::Loop));
        assert_eq!(led(&[("l", "l/x")], "l"), Err(LinkFault::Loop));
    }
}
