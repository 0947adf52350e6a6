//! Writing what has changed.

use std::sync::Arc;

use super::{Body, Child, Node, Pages, Tree};
use crate::key::Key;
use crate::page::PageWriter;
use crate::run::RunRef;

/// A page to be written.
#[derive(Clone, Copy, Debug)]
pub struct PageOut<'a> {
    /// Its level, 0 for a leaf.
    pub level: u8,
    /// Its first key.
    pub first: &'a Key,
    /// Its bytes.
    pub plain: &'a [u8],
}

impl Tree {
    /// Has `sink` write every page that has changed, those below before those above, and refers to where
    /// they are.
    ///
    /// # Errors
    ///
    /// The first of the sink's; what was written until then stays written.
    pub fn write<E>(
        &mut self,
        pages: &Pages,
        sink: &mut impl FnMut(PageOut<'_>) -> Result<RunRef, E>,
    ) -> Result<(), E> {
        match &mut self.root {
            Some(root) => write(root, pages, sink),
            None => Ok(()),
        }
    }
}

fn write<E>(
    child: &mut Child,
    pages: &Pages,
    sink: &mut impl FnMut(PageOut<'_>) -> Result<RunRef, E>,
) -> Result<(), E> {
    let Child::Dirty(node) = child else {
        return Ok(());
    };
    let has_dirty = match &node.body {
        Body::Leaf(_) => false,
        Body::Branch(children) => {
            let mut children = children.iter();
            children.any(|(_, child)| matches!(child, Child::Dirty(_)))
        }
    };
    if has_dirty && let Body::Branch(children) = &mut Arc::make_mut(node).body {
        for (_, below) in children {
            write(below, pages, sink)?;
        }
    }
    let plain = encode(node);
    let at = sink(PageOut {
        level: node.level,
        first: node.first(),
        plain: &plain,
    })?;
    pages.insert(at, Arc::clone(node));
    *child = Child::Clean(at);
    Ok(())
}

fn encode(node: &Node) -> Vec<u8> {
    let mut writer = PageWriter::new(node.level, node.len());
    match &node.body {
        Body::Leaf(entries) => {
            for (key, value) in entries {
                writer.value(key, value);
            }
        }
        Body::Branch(children) => {
            for (key, child) in children {
                match child {
                    Child::Clean(at) => writer.reference(key, at),
                    Child::Dirty(_) => unreachable!("pages below were written before"),
                }
            }
        }
    }
    let plain = writer.finish();
    assert_eq!(plain.len(), node.bytes, "a page is as long as was reckoned");
    plain
}
