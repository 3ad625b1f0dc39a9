//! Functions and statements: values both ways, errors, panics.

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::error::Result;
use anabranch_sqlite::{Embedded, SqlError};
use libsqlite3_sys as ffi;

fn open() -> Embedded {
    Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap()
}

/// A connection with functions that return their argument, the count, and errors.
fn open_with_functions() -> Embedded {
    let conn = open();
    let db = conn.db();
    db.create_function("same", 1, Default::default(), |call| Ok(call.arg(0).into())).unwrap();
    db.create_function("n", -1, Default::default(), |call| Ok(Value::Integer(call.len() as i64)))
        .unwrap();
    db.create_function("fail", 2, Default::default(), |call| match (call.arg(0), call.arg(1)) {
        (ValueRef::Integer(code), ValueRef::Text(text)) => {
            Err(SqlError { code: code as i32, message: String::from_utf8_lossy(text).into_owned() })
        }
        _ => Err(SqlError::new("usage")),
    })
    .unwrap();
    db.create_function("explode", 1, Default::default(), |call| match call.arg(0) {
        ValueRef::Integer(0) => Ok(Value::Null),
        _ => panic!("boom"),
    })
    .unwrap();
    db.create_function("long", 1, Default::default(), |call| match call.arg(0) {
        ValueRef::Integer(n) => Ok(Value::Blob(vec![0; n as usize])),
        _ => Ok(Value::Null),
    })
    .unwrap();
    conn
}

/// The result of an expression, or the code and text of its error.
fn eval(conn: &Embedded, sql: &str) -> std::result::Result<Value, (i32, String)> {
    let value = conn.db().query_value(&format!("SELECT {sql}"), &[]);
    value.map(|v| v.expect("one row")).map_err(|e| (e.code, e.message))
}

#[test]
fn values_pass_unchanged() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let conn = open_with_functions();
        conn.db().execute(&format!("PRAGMA encoding='{encoding}'"), &[]).unwrap();
        let values = [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(-0.5),
            Value::Real(f64::INFINITY),
            Value::Text("".into()),
            Value::Text("mañana 水 🦀".into()),
            Value::Text("a\0b".into()),
            Value::Blob(vec![]),
            Value::Blob(vec![0, 255, 0]),
        ];
        for value in values {
            let got = conn.db().query_value("SELECT same(?1)", &[value.as_ref()]).unwrap();
            assert_eq!(got, Some(value.clone()), "{encoding}");
            let rows = conn
                .db()
                .query_rows("SELECT ?1, same(?1) UNION ALL SELECT 1,2", &[value.as_ref()])
                .unwrap();
            let last = vec![Value::Integer(1), Value::Integer(2)];
            assert_eq!(rows, [vec![value.clone(), value], last], "{encoding}");
        }
        let nan = conn.db().query_value("SELECT same(?1)", &[ValueRef::Real(f64::NAN)]).unwrap();
        assert_eq!(nan, Some(Value::Null));
    }
    let conn = open_with_functions();
    let bytes = Value::Text(vec![0xff, 0xfe, b'a']);
    assert_eq!(conn.db().query_value("SELECT same(?1)", &[bytes.as_ref()]).unwrap(), Some(bytes));
}

#[test]
fn errors_keep_code_and_text() {
    let conn = open_with_functions();
    let table = [
        ("n()", Ok(Value::Integer(0))),
        ("n(1,2,3)", Ok(Value::Integer(3))),
        ("fail(1,'no')", Err((1, "no".to_string()))),
        ("fail(0,'not ok')", Err((1, "not ok".into()))),
        ("fail(100,'a row')", Err((1, "a row".into()))),
        ("fail(2067,'unique')", Err((2067, "unique".into()))),
        ("fail(7,'x')", Err((7, "out of memory".into()))),
        ("fail(18,'x')", Err((18, "string or blob too big".into()))),
        ("length(long(1000))", Ok(Value::Integer(1000))),
        ("length(long(2000))", Err((18, "string or blob too big".into()))),
        ("nowhere()", Err((1, "no such function: nowhere".into()))),
    ];
    conn.db().set_limit(ffi::SQLITE_LIMIT_LENGTH, 1000);
    assert_eq!(conn.db().limit(ffi::SQLITE_LIMIT_LENGTH), 1000);
    for (sql, expected) in table {
        assert_eq!(eval(&conn, sql), expected, "{sql}");
        assert_eq!(eval(&conn, "n()"), Ok(Value::Integer(0)), "after {sql}");
    }
}

#[test]
fn a_panic_poisons_its_function_alone() {
    let conn = open_with_functions();
    assert_eq!(eval(&conn, "explode(0)"), Ok(Value::Null));
    assert_eq!(eval(&conn, "explode(1)"), Err((1, "explode: panic: boom".into())));
    let after = Err((1, "explode: poisoned by an earlier panic: boom".into()));
    assert_eq!(eval(&conn, "explode(0)"), after);
    assert_eq!(eval(&conn, "n(1)"), Ok(Value::Integer(1)));
}

#[test]
fn a_function_may_run_sql_that_calls_it_again() {
    let conn = open();
    let db = conn.db().clone();
    let f = move |call: &anabranch_sqlite::function::Call<'_>| -> Result<Value> {
        match call.arg(0) {
            ValueRef::Integer(n) if n > 1 => {
                let below = db.query_value("SELECT fact(?1)", &[ValueRef::Integer(n - 1)])?;
                match below {
                    Some(Value::Integer(below)) => Ok(Value::Integer(n * below)),
                    _ => Err(SqlError::new("no number")),
                }
            }
            _ => Ok(Value::Integer(1)),
        }
    };
    conn.db().create_function("fact", 1, Default::default(), f).unwrap();
    assert_eq!(eval(&conn, "fact(10)"), Ok(Value::Integer(3_628_800)));
}

#[test]
fn texts_that_are_not_one_statement_are_refused() {
    let conn = open();
    for sql in ["", " ;", "-- nothing", "SELECT 1; SELECT 2", "SELECT '\0'", "SELEC"] {
        assert!(conn.db().prepare(sql).is_err(), "{sql}");
    }
    conn.db().prepare("SELECT 1 ; ").unwrap();
    conn.db().execute_batch(" -- nothing\n; SELECT 1;; /* end */").unwrap();
    assert!(conn.db().execute_batch("CREATE TABLE a(x); SELEC").is_err());
    assert!(conn.db().query_value("SELECT x FROM a", &[]).unwrap().is_none());
}

#[test]
fn a_statement_resets_after_rows_and_errors() {
    let conn = open();
    let db = conn.db();
    db.execute_batch("CREATE TABLE t(a PRIMARY KEY, b)").unwrap();
    let mut insert = db.prepare("INSERT INTO t VALUES(?1, ?2)").unwrap();
    let (one, two) = (ValueRef::Integer(1), ValueRef::Text(b"two"));
    insert.execute(&[one, two]).unwrap();
    let error = insert.execute(&[one]).unwrap_err();
    assert_eq!(error.code, ffi::SQLITE_CONSTRAINT_PRIMARYKEY);
    assert_eq!(error.message, "UNIQUE constraint failed: t.a");
    // A parameter that is left out is NULL, not what an earlier run bound.
    insert.execute(&[two]).unwrap();
    assert_eq!(insert.bind(3, one).unwrap_err().code, ffi::SQLITE_RANGE);
    assert_eq!(insert.bind(usize::MAX, one).unwrap_err().code, ffi::SQLITE_RANGE);
    assert_eq!(insert.execute(&[one, two, one]).unwrap_err().code, ffi::SQLITE_RANGE);
    let mut select = db.prepare("SELECT b, a FROM t ORDER BY rowid").unwrap();
    assert!(select.query(&[]).unwrap());
    assert!(matches!(select.column(0), ValueRef::Text(b"two")));
    assert!(matches!(select.column(7), ValueRef::Null));
    assert!(select.step().unwrap());
    assert!(matches!(select.column(0), ValueRef::Null));
    assert!(!select.step().unwrap());
    assert!(matches!(select.column(0), ValueRef::Null));
    assert!(select.query(&[]).unwrap());
    assert!(select.query(&[]).unwrap());
    select.reset();
}

#[test]
fn the_connection_tells_its_state() {
    let conn = open();
    let db = conn.db();
    assert!(db.is_autocommit() && !db.is_read_only() && !db.is_writing());
    assert!(db.sqlite_version() >= 3_051_003);
    assert!(db.attached().is_empty());
    db.execute_batch("ATTACH ':memory:' AS \"a b\"; ATTACH ':memory:' AS c; BEGIN").unwrap();
    assert_eq!(db.attached(), ["a b", "c"]);
    assert!(!db.is_autocommit());
    db.execute_batch("CREATE TABLE t(a)").unwrap();
    let mut writer = db.prepare("INSERT INTO t VALUES(1),(2) RETURNING a").unwrap();
    assert!(writer.query(&[]).unwrap());
    assert!(db.is_writing());
    writer.reset();
    assert!(!db.is_writing());
    assert_eq!(db.last_insert_rowid(), 2);
    db.set_last_insert_rowid(77);
    assert_eq!(
        db.query_value("SELECT last_insert_rowid()", &[]).unwrap(),
        Some(Value::Integer(77))
    );
}
