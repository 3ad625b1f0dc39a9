//! SQL values as they are compared and carried: owned [`Value`], borrowed [`ValueRef`].
//!
//! Text is bytes: SQLite does not promise that TEXT is UTF-8, and what an application
//! stored must travel unchanged.

use std::cmp::Ordering;

/// A borrowed SQL value. `Text` holds the bytes SQLite stores, normally UTF-8.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// SQL NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// An IEEE 754 double; SQLite never stores NaN.
    Real(f64),
    /// Text bytes in the encoding UTF-8 (not verified).
    Text(&'a [u8]),
    /// Any bytes.
    Blob(&'a [u8]),
}

/// An owned SQL value; see [`ValueRef`].
#[derive(Clone, Debug)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// An IEEE 754 double.
    Real(f64),
    /// Text bytes.
    Text(Vec<u8>),
    /// Any bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Borrows the value.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Integer(i) => ValueRef::Integer(*i),
            Value::Real(r) => ValueRef::Real(*r),
            Value::Text(t) => ValueRef::Text(t),
            Value::Blob(b) => ValueRef::Blob(b),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(i) => Value::Integer(i),
            ValueRef::Real(r) => Value::Real(r),
            ValueRef::Text(t) => Value::Text(t.to_vec()),
            ValueRef::Blob(b) => Value::Blob(b.to_vec()),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.as_ref().is_same(other.as_ref())
    }
}

impl ValueRef<'_> {
    /// Whether both are the same value of the same type: what capture calls unchanged.
    ///
    /// 2 and 2.0 differ; -0.0 and 0.0 do not.
    #[inline]
    pub fn is_same(self, other: ValueRef<'_>) -> bool {
        self.order(other) == Ordering::Equal
    }

    /// The total order that decides between cells of equal column version.
    ///
    /// NULL < BLOB < TEXT < REAL < INTEGER by type; then bytes, or numbers. A NaN
    /// counts as NULL, and -0.0 equals 0.0.
    #[inline]
    pub fn order(self, other: ValueRef<'_>) -> Ordering {
        use ValueRef::*;
        match (self.denan(), other.denan()) {
            (Null, Null) => Ordering::Equal,
            (Blob(a), Blob(b)) | (Text(a), Text(b)) => a.cmp(b),
            (Real(a), Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Integer(a), Integer(b)) => a.cmp(&b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn denan(self) -> Self {
        match self {
            ValueRef::Real(r) if r.is_nan() => ValueRef::Null,
            other => other,
        }
    }

    fn rank(self) -> u8 {
        match self {
            ValueRef::Null => 0,
            ValueRef::Blob(_) => 1,
            ValueRef::Text(_) => 2,
            ValueRef::Real(_) => 3,
            ValueRef::Integer(_) => 4,
        }
    }
}
