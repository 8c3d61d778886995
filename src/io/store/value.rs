//! How the core's values are written into columns and read back.
//!
//! Paths keep their exact bytes: TEXT where they are UTF-8, so that a person can read them, BLOB
//! otherwise. The same rule holds for keys, so look-ups agree with it; SQLite orders all TEXT, by
//! bytes, before all BLOB.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use super::error::{Fault, Step};
use crate::core::path::Bytes;

/// A path on its way into a column.
pub(super) struct PathCell<'a>(pub(super) &'a [u8]);

impl ToSql for PathCell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }))
    }
}

/// A path from a column.
pub(super) struct StoredPath(pub(super) Bytes);

impl FromSql for StoredPath {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Self(Bytes::from(bytes))),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => {
                Err(FromSqlError::InvalidType)
            }
        }
    }
}

/// A count or number on its way into a column; [`uint`] gives back exactly the same.
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}

/// A count or number from a column.
pub(super) fn uint(stored: i64) -> u64 {
    stored.cast_unsigned()
}

/// A value as JSON text.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Step<String> {
    serde_json::to_string(value)
        .map_err(|error| Fault::Contradiction(format!("a value that is not JSON: {error}")))
}

/// A value from JSON text; `what` names it should it be none.
pub(super) fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Step<T> {
    serde_json::from_str(text)
        .map_err(|error| Fault::Contradiction(format!("unreadable {what}: {error}")))
}
