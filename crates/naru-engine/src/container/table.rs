//! All containers, found by id, name or the beginning of an id.

use super::Container;
use naru_base::{Error, Id, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// The table. Names are unique; a name is held from the moment it is reserved.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<Id, Arc<Container>>,
    names: HashMap<String, Id>,
}

impl Table {
    /// Holds `name` for `id`.
    ///
    /// # Errors
    /// docker's text when another container has it.
    pub(crate) fn reserve(&self, name: &str, id: &Id) -> Result<()> {
        let mut inner = crate::lock(&self.inner);
        match inner.names.get(name) {
            Some(holder) if holder != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that \
                 container to be able to reuse that name."
            ))),
            _ => {
                inner.names.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }

    /// Lets go of a name that was reserved for `id`.
    pub(crate) fn release(&self, name: &str, id: &Id) {
        let mut inner = crate::lock(&self.inner);
        if inner.names.get(name) == Some(id) {
            inner.names.remove(name);
        }
    }

    /// Whether somebody has this name.
    pub(crate) fn is_taken(&self, name: &str) -> bool {
        crate::lock(&self.inner).names.contains_key(name)
    }

    pub(crate) fn insert(&self, container: Arc<Container>) {
        let mut inner = crate::lock(&self.inner);
        inner.names.insert(container.name(), container.id.clone());
        inner.by_id.insert(container.id.clone(), container);
    }

    pub(crate) fn remove(&self, id: &Id) {
        let mut inner = crate::lock(&self.inner);
        inner.by_id.remove(id);
        inner.names.retain(|_, holder| holder != id);
    }

    /// Every container, in no order that means anything.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        crate::lock(&self.inner).by_id.values().cloned().collect()
    }

    pub(crate) fn by_id(&self, id: &Id) -> Option<Arc<Container>> {
        crate::lock(&self.inner).by_id.get(id).cloned()
    }

    /// Finds by whole id, then name (with or without slash), then unique beginning of an id.
    ///
    /// # Errors
    /// docker's texts: none, several, empty.
    pub(crate) fn find(&self, given: &str) -> Result<Arc<Container>> {
        if given.is_empty() {
            return Err(Error::invalid(format!("invalid name or ID supplied: {given:?}")));
        }
        let missing = || Error::not_found(format!("No such container: {given}"));
        let inner = crate::lock(&self.inner);
        if let Some(container) = inner.by_id.get(given) {
            return Ok(Arc::clone(container));
        }
        if let Some(id) = inner.names.get(given.strip_prefix('/').unwrap_or(given)) {
            return inner.by_id.get(id).cloned().ok_or_else(missing);
        }
        let mut found = inner.by_id.range::<str, _>(given..).take_while(|(id, _)| id.as_str().starts_with(given));
        match (found.next(), found.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {given}"))),
            _ => Err(missing()),
        }
    }
}
