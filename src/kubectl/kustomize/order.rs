//! The order in which objects are printed.

use super::error::{BuildError, Built};
use super::ids::{Gvk, ORDER_FIRST, ORDER_LAST, ResId, position};
use super::kustomization::SortOptions;
use super::resource::Resources;

pub(crate) enum Sorting {
    /// As they were read.
    Fifo,
    /// By kind, those in the lists first and last, then by name.
    Legacy { first: Vec<String>, last: Vec<String> },
}

impl Sorting {
    pub(crate) fn legacy() -> Self {
        let owned = |kinds: &[&str]| kinds.iter().map(ToString::to_string).collect();
        Sorting::Legacy { first: owned(&ORDER_FIRST), last: owned(&ORDER_LAST) }
    }

    pub(crate) fn of(options: &SortOptions) -> Built<Self> {
        match (options.order.as_str(), &options.legacy) {
            ("fifo", None) => Ok(Sorting::Fifo),
            ("legacy", None) => Ok(Sorting::legacy()),
            ("legacy", Some((first, last))) => {
                Ok(Sorting::Legacy { first: first.clone(), last: last.clone() })
            }
            ("fifo", Some(_)) => Err(BuildError::told(
                "the field 'sortOptions.legacySortOptions' is set but the selected sort order is 'fifo', not 'legacy'",
            )),
            _ => Err(BuildError::told("the field 'sortOptions.order' must be one of [fifo, legacy]")),
        }
    }

    pub(crate) fn run(&self, resources: &mut Resources) -> Built<()> {
        let Sorting::Legacy { first, last } = self else { return Ok(()) };
        let mut list = std::mem::take(&mut resources.0);
        list.sort_by_cached_key(|resource| {
            let id = resource.id();
            (position(&id.gvk.kind, first, last), id.gvk.sort_text(), by_name(&id))
        });
        resources
            .extend(list)
            .map_err(|error| error.doing("SortOrderTransformer: Failed to append to resources"))
    }
}

fn by_name(id: &ResId) -> String {
    let or = |text: &str, absent: &str| if text.is_empty() { absent.to_string() } else { text.to_string() };
    let gvk: &Gvk = &id.gvk;
    format!("{gvk}|{}|{}", or(&id.namespace, "~X"), or(&id.name, "~N"))
}
