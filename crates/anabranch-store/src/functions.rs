//! The SQL functions, by name.

use std::rc::Rc;

use anabranch_core::clock::Chain;
use anabranch_core::forest::Difference;
use anabranch_core::limits::{MAX_AUTHOR_BYTES, MAX_MESSAGE_BYTES, MAX_VERSION};
use anabranch_core::merge::Ties;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::{key, words};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::{Call, Flags};

use crate::context::Context;
use crate::crr;
use crate::delta;
use crate::error::{Result, StoreError};
use crate::transaction;

mod unpack;

/// The one setting.
const MERGE_EQUAL_VALUES: &[u8] = b"merge-equal-values";

/// Commit of this build, 40 hexadecimal digits; zeros, as git writes a commit that is not
/// there, when the build script found none.
const COMMIT: &str = env!("ANABRANCH_COMMIT");

const PLAIN: Flags = Flags { deterministic: false, direct_only: false, innocuous: false };
const INNOCUOUS: Flags = Flags { innocuous: true, ..PLAIN };
const CONSTANT: Flags = Flags { deterministic: true, ..INNOCUOUS };
const DETERMINISTIC: Flags = Flags { deterministic: true, ..PLAIN };
const DIRECT_ONLY: Flags = Flags { direct_only: true, ..PLAIN };

type Function = fn(&Context, &Call<'_>) -> Result<Value>;

/// Name, number of arguments (-1: any), flags as cr-sqlite has them.
const FUNCTIONS: &[(&str, i32, Flags, Function)] = &[
    ("crsql_site_id", 0, CONSTANT, site_id),
    ("crsql_db_version", 0, INNOCUOUS, db_version),
    ("crsql_next_db_version", -1, INNOCUOUS, next_db_version),
    ("crsql_get_seq", 0, CONSTANT, get_seq),
    ("crsql_increment_and_get_seq", 0, INNOCUOUS, increment_and_get_seq),
    ("crsql_rows_impacted", 0, INNOCUOUS, rows_impacted),
    ("crsql_internal_sync_bit", -1, INNOCUOUS, sync_bit),
    ("crsql_config_get", 1, CONSTANT, config_get),
    ("crsql_config_set", 2, PLAIN, config_set),
    ("crsql_pack_columns", -1, PLAIN, pack_columns),
    ("crsql_sha", 0, CONSTANT, sha),
    ("crsql_finalize", -1, DIRECT_ONLY, finalize),
    ("crsql_as_crr", -1, DETERMINISTIC, as_crr),
    ("crsql_as_table", 1, PLAIN, as_table),
    ("ana_version_vector", 0, INNOCUOUS, version_vector),
    ("ana_internal_chain", 2, INNOCUOUS, chain),
    ("ana_internal_read", 1, INNOCUOUS, read_vector),
    ("ana_internal_forks", 1, INNOCUOUS, forks),
    ("ana_internal_seen", 1, INNOCUOUS, seen),
    ("ana_words", 1, CONSTANT, ana_words),
    ("ana_author", 1, DIRECT_ONLY, author),
    ("ana_message", 1, DIRECT_ONLY, message),
    ("ana_internal_blocks_read", 0, INNOCUOUS, blocks_read),
];

/// Registers the functions, and `crsql_unpack_columns`.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    for (name, n_args, flags, function) in FUNCTIONS {
        let cx = cx.clone();
        cx.clone()
            .db
            .create_function(name, *n_args, *flags, move |call| Ok(function(&cx, call)?))?;
    }
    cx.db.create_table("crsql_unpack_columns", true, unpack::UnpackColumns)
}

fn site_id(cx: &Context, _: &Call<'_>) -> Result<Value> {
    let mut metadata = cx.metadata.borrow_mut();
    metadata.refresh()?;
    Ok(Value::Blob(metadata.own_site().as_bytes().to_vec()))
}

fn db_version(cx: &Context, _: &Call<'_>) -> Result<Value> {
    cx.settle();
    let mut metadata = cx.metadata.borrow_mut();
    metadata.refresh()?;
    Ok(integer(metadata.db_version()))
}

fn next_db_version(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let asked = match call.len() {
        0 => 0,
        1 => asked_version(call.arg(0))?,
        n => {
            return refused(format!("crsql_next_db_version: expected at most 1 value, got {n}"));
        }
    };
    cx.settle();
    cx.metadata.borrow_mut().refresh()?;
    Ok(integer(transaction::raise_db_version(cx, asked)?))
}

fn asked_version(value: ValueRef<'_>) -> Result<u64> {
    match value {
        ValueRef::Null => Ok(0),
        ValueRef::Integer(asked) => match u64::try_from(asked) {
            Err(_) => Ok(0),
            Ok(asked) if asked <= MAX_VERSION => Ok(asked),
            Ok(asked) => refused(format!(
                "crsql_next_db_version: {asked} is above the largest db_version, {MAX_VERSION}"
            )),
        },
        _ => refused("crsql_next_db_version: the version must be an integer".to_string()),
    }
}

fn get_seq(cx: &Context, _: &Call<'_>) -> Result<Value> {
    transaction::flush(cx)?;
    Ok(integer(cx.transaction.borrow().change.next_seq))
}

fn increment_and_get_seq(cx: &Context, _: &Call<'_>) -> Result<Value> {
    transaction::flush(cx)?;
    let mut transaction = cx.transaction.borrow_mut();
    let seq = transaction.change.next_seq;
    transaction.change_mut().next_seq += 1;
    Ok(integer(seq))
}

fn rows_impacted(cx: &Context, _: &Call<'_>) -> Result<Value> {
    Ok(integer(cx.impacted.get()))
}

fn sync_bit(cx: &Context, call: &Call<'_>) -> Result<Value> {
    match (call.len(), (!call.is_empty()).then(|| call.arg(0))) {
        (0, _) => {}
        (1, Some(ValueRef::Integer(bit))) => cx.sync_bit.set(bit != 0),
        (1, _) => {
            return refused("crsql_internal_sync_bit: the bit must be an integer".to_string());
        }
        (n, _) => {
            return refused(format!("crsql_internal_sync_bit: expected at most 1 value, got {n}"));
        }
    }
    Ok(Value::Integer(i64::from(cx.sync_bit.get())))
}

fn config_get(cx: &Context, call: &Call<'_>) -> Result<Value> {
    check_setting(call.arg(0))?;
    cx.refresh()?;
    Ok(Value::Integer(i64::from(cx.settings.ties(&cx.db)? == Ties::LargerSite)))
}

fn config_set(cx: &Context, call: &Call<'_>) -> Result<Value> {
    check_setting(call.arg(0))?;
    let ValueRef::Integer(value) = call.arg(1) else {
        return refused(
            "crsql_config_set: the value of merge-equal-values must be 0 or 1".to_string(),
        );
    };
    let rowid = cx.db.last_insert_rowid();
    // What is undone is told only to who takes part.
    let stored = transaction::enrol(cx).and_then(|()| cx.settings.set_ties(&cx.db, value));
    cx.db.set_last_insert_rowid(rowid);
    stored?;
    Ok(Value::Integer(value))
}

fn check_setting(name: ValueRef<'_>) -> Result<()> {
    match name {
        ValueRef::Text(name) if name == MERGE_EQUAL_VALUES => Ok(()),
        _ => refused("Unknown setting name".to_string()),
    }
}

fn pack_columns(_: &Context, call: &Call<'_>) -> Result<Value> {
    let values: Vec<ValueRef<'_>> = (0..call.len()).map(|i| call.arg(i)).collect();
    let packed = key::pack(&values)
        .map_err(|_| StoreError::Refused("Failed to pack columns".to_string()))?;
    Ok(Value::Blob(packed))
}

fn sha(_: &Context, _: &Call<'_>) -> Result<Value> {
    Ok(Value::Text(COMMIT.into()))
}

/// Kept statements are compiled again at next use: the connection can be closed, and used.
fn finalize(cx: &Context, _: &Call<'_>) -> Result<Value> {
    cx.drop_statements();
    Ok(Value::Text(b"finalized".to_vec()))
}

fn as_crr(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let name = match call.len() {
        1 => {
            let name = crr::name_argument(call.arg(0), "crsql_as_crr")?;
            crr::as_crr(cx, None, &name)?;
            name
        }
        2 => {
            let name = crr::name_argument(call.arg(1), "crsql_as_crr")?;
            let schema = match call.arg(0) {
                ValueRef::Text(schema) => Some(String::from_utf8_lossy(schema).into_owned()),
                _ => None,
            };
            crr::as_crr(cx, schema.as_deref(), &name)?;
            name
        }
        _ => {
            return refused(
                "Wrong number of args provided to crsql_as_crr. Provide the schema \n          \
                 name and table name or just the table name."
                    .to_string(),
            );
        }
    };
    crate::delta::tables_changed(cx, &name)?;
    Ok(Value::Text(b"OK".to_vec()))
}

fn as_table(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let name = crr::name_argument(call.arg(0), "crsql_as_table")?;
    crr::as_table(cx, &name)?;
    Ok(Value::Null)
}

fn version_vector(cx: &Context, _: &Call<'_>) -> Result<Value> {
    cx.settle();
    let mut metadata = cx.metadata.borrow_mut();
    metadata.refresh()?;
    Ok(Value::Text(metadata.vector().to_json().into_bytes()))
}

/// The chain of a site at a version; NULL if the version is not held.
fn chain(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let (ValueRef::Blob(site), ValueRef::Integer(version)) = (call.arg(0), call.arg(1)) else {
        return refused("ana_internal_chain: the arguments must be a site and a version".into());
    };
    let (Some(site), Ok(version)) = (SiteId::new(site), u64::try_from(version)) else {
        return Ok(Value::Null);
    };
    cx.settle();
    let mut metadata = cx.metadata.borrow_mut();
    metadata.refresh()?;
    if version > metadata.vector().version(site) {
        return Ok(Value::Null);
    }
    let chain = metadata.chain_at(site, version)?;
    Ok(chain.map_or(Value::Null, |chain| Value::Blob(chain.0.to_vec())))
}

/// What of another copy's vector is held here, by the names that it has here; what is not
/// keeps the name that it came with.
fn read_vector(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let reading = delta::read(cx, "ana_internal_read", call.arg(0))?;
    Ok(Value::Text(reading.vector.to_json().into_bytes()))
}

/// The entries of another copy's vector whose histories are others here: as a vector.
fn forks(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let reading = delta::read(cx, "ana_internal_forks", call.arg(0))?;
    let mut forks = VersionVector::new();
    for Difference { site, version, chain } in reading.forks {
        forks.set(site, Held { version, chain });
    }
    Ok(Value::Text(forks.to_json().into_bytes()))
}

/// What a site had seen of others when it wrote its last change that is held here: a version
/// vector whose chains are zeros.
fn seen(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let site = match call.arg(0) {
        ValueRef::Blob(bytes) => SiteId::new(bytes),
        _ => None,
    };
    let Some(site) = site else {
        return refused("ana_internal_seen: the argument must be a site".into());
    };
    cx.settle();
    let mut metadata = cx.metadata.borrow_mut();
    metadata.refresh()?;
    let mut vector = VersionVector::new();
    for (site, version) in metadata.context_at_last(site)? {
        vector.set(site, Held { version, chain: Chain::default() });
    }
    Ok(Value::Text(vector.to_json().into_bytes()))
}

fn ana_words(_: &Context, call: &Call<'_>) -> Result<Value> {
    match call.arg(0) {
        ValueRef::Blob(bytes) => Ok(Value::Text(words::words(bytes).into_bytes())),
        ValueRef::Null => Ok(Value::Null),
        _ => refused("ana_words: the argument must be a blob".to_string()),
    }
}

fn author(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let author = text_argument(call.arg(0), "ana_author", MAX_AUTHOR_BYTES)?;
    cx.author.replace(author);
    Ok(Value::Null)
}

fn message(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let message = text_argument(call.arg(0), "ana_message", MAX_MESSAGE_BYTES)?;
    cx.transaction.borrow_mut().change_mut().message = message;
    Ok(Value::Null)
}

/// A text for a header, of no more bytes than a delta carries; `None` for NULL.
fn text_argument(value: ValueRef<'_>, function: &str, max_bytes: usize) -> Result<Option<Rc<str>>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) if text.len() > max_bytes => {
            refused(format!("{function}: the text exceeds {max_bytes} bytes"))
        }
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => refused(format!("{function}: the text must be UTF-8")),
        },
        _ => refused(format!("{function}: the argument must be a text or NULL")),
    }
}

/// Clock blocks that this connection read so far: what the benchmark counts.
fn blocks_read(cx: &Context, _: &Call<'_>) -> Result<Value> {
    Ok(integer(cx.metadata.borrow().n_blocks_read()))
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn refused<T>(message: String) -> Result<T> {
    Err(StoreError::Refused(message))
}
