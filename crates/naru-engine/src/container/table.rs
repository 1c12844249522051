//! All containers, found by id, name or the beginning of an id.

use super::Container;
use naru_base::{Error, Id, Result};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
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

    /// Whether a name is held for this id, which may not be in the table yet.
    pub(crate) fn is_being_made(&self, id: &str) -> bool {
        crate::lock(&self.inner).names.values().any(|holder| holder.as_str() == id)
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
        let mut found = inner
            .by_id
            .range::<str, _>((Bound::Included(given), Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(given));
        match (found.next(), found.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {given}"))),
            _ => Err(missing()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests_support::record;
    use naru_base::Class;

    fn container(id: &str, name: &str) -> Arc<Container> {
        Arc::new(Container::new(record(id, name)))
    }

    #[test]
    fn found_by_id_name_and_unique_prefix() {
        let table = Table::default();
        for (id, name) in [("abc1", "web"), ("abc2", "db"), ("f", "abc")] {
            table.insert(container(id, name));
        }
        let name = |given: &str| table.find(given).map(|c| c.name());
        assert_eq!(name("web").unwrap(), "web");
        assert_eq!(name("/web").unwrap(), "web");
        assert_eq!(name("abc1").unwrap(), "web");
        assert_eq!(name(&format!("{:0<64}", "abc2")).unwrap(), "db");
        // A name wins over the beginning of an id.
        assert_eq!(name("abc").unwrap(), "abc");
        assert_eq!(name("ab").unwrap_err().class(), Class::InvalidParameter);
        assert_eq!(name("nope").unwrap_err().message(), "No such container: nope");
        assert_eq!(name("").unwrap_err().class(), Class::InvalidParameter);
    }

    #[test]
    fn a_name_has_one_holder_until_it_is_let_go() {
        let table = Table::default();
        let (one, two) = (Id::random().unwrap(), Id::random().unwrap());
        table.reserve("web", &one).unwrap();
        let taken = table.reserve("web", &two).unwrap_err();
        assert_eq!(taken.class(), Class::Conflict);
        assert!(taken.message().contains(one.as_str()));
        table.release("web", &two);
        assert!(table.is_taken("web"));
        table.release("web", &one);
        table.reserve("web", &two).unwrap();
    }
}
