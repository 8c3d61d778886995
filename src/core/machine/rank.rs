//! The place of a file, or of a group of files, in a line: `sort_by`, made comparable.

use std::cmp::Reverse;

use crate::core::candidate::Version;
use crate::core::path::Bytes;
use crate::core::trigger::{FolderSpec, SortBy};

/// Where a file stands among those that wait: by `sort_by`, then by arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    parts: Vec<Part>,
    order: u64,
}

/// One part of an order. In one lane the same places have the same kind of part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(i128),
    Name(Bytes),
    NameBack(Reverse<Bytes>),
}

impl Rank {
    /// The place of a file.
    pub(super) fn of(folder: &FolderSpec, rel: &Bytes, version: &Version, order: u64) -> Self {
        let number = |number: i128, reverse| Part::Number(if reverse { -number } else { number });
        let parts = folder.sort_by.iter().map(|sort| match (sort.by, sort.reverse) {
            (SortBy::Arrival, reverse) => number(order.into(), reverse),
            (SortBy::Mtime, reverse) => number(version.mtime_ns.into(), reverse),
            (SortBy::Size, reverse) => number(version.size.into(), reverse),
            (SortBy::Name, false) => Part::Name(rel.clone()),
            (SortBy::Name, true) => Part::NameBack(Reverse(rel.clone())),
        });
        Self { parts: parts.collect(), order }
    }

    /// The place of a group: groups go in the order in which they closed.
    pub(super) fn turn(order: u64) -> Self {
        Self { parts: Vec::new(), order }
    }

    /// The number of arrival, which no other has.
    pub(super) fn order(&self) -> u64 {
        self.order
    }
}
