//! Virtual tables: what the planner offers and is answered, scans, inserts, errors, panics.

use std::cell::RefCell;
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::error::Result;
use anabranch_sqlite::vtab::{Constraint, Cursor, Operator, OrderTerm, Plan, Table};
use anabranch_sqlite::{Embedded, SqlError};
use libsqlite3_sys as ffi;

/// Rows 1 to 5 with a text and a blob. Takes every usable constraint it is offered, as an
/// argument that is not checked again but noted.
#[derive(Clone, Default)]
struct Numbers {
    /// What `filter` was called with.
    scans: Rc<RefCell<Vec<String>>>,
    inserted: Rc<RefCell<Vec<Vec<Value>>>>,
}

impl Table for Numbers {
    fn declaration(&self) -> String {
        "CREATE TABLE x(n INTEGER, t TEXT, b BLOB, fault TEXT HIDDEN)".into()
    }

    fn plan(&self, constraints: &[Constraint], order: &[OrderTerm]) -> Result<Plan> {
        let mut plan = Plan { cost: 10.0, rows: 5, index_number: 7, ..Plan::default() };
        for constraint in constraints {
            let Constraint { column, operator, is_usable } = constraint;
            if *column == 3 && *operator == Operator::Is {
                return Err(SqlError::new("no plan with IS"));
            }
            let n_args = plan.arguments.iter().flatten().count();
            plan.arguments.push(is_usable.then_some(n_args));
            // LIMIT and OFFSET are left to SQLite, and so is what has no meaning here.
            plan.omit.push(*column == 3);
            match operator {
                Operator::Limit | Operator::Offset => {
                    plan.index_string += &format!("{operator:?} ")
                }
                _ => plan.index_string += &format!("{column}{operator:?} "),
            }
        }
        for term in order {
            let direction = if term.is_desc { "desc" } else { "asc" };
            plan.index_string += &format!("by {} {direction} ", term.column);
        }
        plan.is_ordered = order.len() == 1 && order[0].column == 0 && !order[0].is_desc;
        Ok(plan)
    }

    fn open(&self) -> Result<Box<dyn Cursor>> {
        Ok(Box::new(Scan { table: self.clone(), n: 0, text: Vec::new(), fault: String::new() }))
    }

    fn insert(&self, values: &[ValueRef<'_>]) -> Result<i64> {
        if let ValueRef::Integer(13) = values[0] {
            let code = ffi::SQLITE_CONSTRAINT_CHECK;
            return Err(SqlError { code, message: "13 is refused".into() });
        }
        self.inserted.borrow_mut().push(values.iter().map(|v| (*v).into()).collect());
        Ok(99)
    }
}

struct Scan {
    table: Numbers,
    n: i64,
    text: Vec<u8>,
    fault: String,
}

impl Scan {
    /// Fails or panics where the query asked for it.
    fn maybe(&self, place: &str) -> Result<()> {
        match self.fault.split_once(' ') {
            Some(("panic", at)) if at == place => panic!("boom in {place}"),
            Some(("fail", at)) if at == place => Err(SqlError::new(format!("error in {place}"))),
            _ => Ok(()),
        }
    }
}

impl Cursor for Scan {
    fn filter(&mut self, number: i32, text: &str, args: &[ValueRef<'_>]) -> Result<()> {
        let args: Vec<String> = args.iter().map(|arg| format!("{:?}", Value::from(*arg))).collect();
        self.table.scans.borrow_mut().push(format!("{number}: {text}[{}]", args.join(", ")));
        self.fault = args
            .iter()
            .find_map(|arg| {
                let bytes = arg.strip_prefix("Text([")?.strip_suffix("])")?;
                let bytes = bytes.split(", ").map(|b| b.parse().unwrap_or(0)).collect();
                String::from_utf8(bytes).ok()
            })
            .unwrap_or_default();
        self.n = 1;
        self.text = b"row 1".to_vec();
        self.maybe("filter")
    }

    fn next(&mut self) -> Result<()> {
        self.n += 1;
        self.text = format!("row {}", self.n).into_bytes();
        self.maybe("next")
    }

    fn is_eof(&self) -> bool {
        self.maybe("eof").expect("only panics are asked for here");
        self.n > 5
    }

    fn column(&mut self, index: usize) -> Result<ValueRef<'_>> {
        self.maybe("column")?;
        Ok(match index {
            0 => ValueRef::Integer(self.n),
            1 => ValueRef::Text(&self.text),
            2 => ValueRef::Blob(&[]),
            _ => ValueRef::Null,
        })
    }

    fn rowid(&self) -> Result<i64> {
        self.maybe("rowid")?;
        Ok(self.n * 10)
    }
}

fn open() -> (Embedded, Numbers) {
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    let table = Numbers::default();
    conn.db().create_table("numbers", true, table.clone()).unwrap();
    (conn, table)
}

fn rows(conn: &Embedded, sql: &str) -> Result<String> {
    let rows = conn.db().query_rows(sql, &[])?;
    let cell = |value: &Value| match value {
        Value::Integer(i) => i.to_string(),
        Value::Text(t) => String::from_utf8_lossy(t).into_owned(),
        Value::Blob(b) => format!("x{}", b.len()),
        Value::Real(r) => r.to_string(),
        Value::Null => "-".into(),
    };
    let line = |row: &Vec<Value>| row.iter().map(cell).collect::<Vec<_>>().join(" ");
    Ok(rows.iter().map(line).collect::<Vec<_>>().join(","))
}

#[test]
fn scans_and_plans() {
    let all = "1,2,3,4,5";
    let table = [
        ("SELECT n FROM numbers", "7: []", all),
        ("SELECT * FROM numbers WHERE n = 2", "7: 0Eq [Integer(2)]", "2 row 2 x0"),
        ("SELECT n FROM numbers WHERE 4 < n", "7: 0Gt [Integer(4)]", "5"),
        (
            "SELECT n FROM numbers WHERE n >= 4 AND n <= 4",
            "7: 0Ge 0Le [Integer(4), Integer(4)]",
            "4",
        ),
        ("SELECT n FROM numbers WHERE n < 2", "7: 0Lt [Integer(2)]", "1"),
        ("SELECT n FROM numbers WHERE n <> 1", "7: 0Ne [Integer(1)]", "2,3,4,5"),
        ("SELECT n FROM numbers WHERE n IS 3", "7: 0Is [Integer(3)]", "3"),
        ("SELECT n FROM numbers WHERE n IS NOT 3", "7: 0IsNot [Integer(3)]", "1,2,4,5"),
        ("SELECT n FROM numbers WHERE n IS NULL", "7: 0IsNull [Null]", ""),
        ("SELECT n FROM numbers WHERE n IS NOT NULL", "7: 0IsNotNull [Null]", all),
        ("SELECT n FROM numbers WHERE rowid = 20", "7: -1Eq [Integer(20)]", "2"),
        ("SELECT n FROM numbers WHERE t GLOB '*3'", "7: 1Other(66) [Text([42, 51])]", "3"),
        ("SELECT n FROM numbers WHERE t LIKE '%3'", "7: 1Other(65) [Text([37, 51])]", "3"),
        ("SELECT n FROM numbers ORDER BY n", "7: by 0 asc []", all),
        ("SELECT n FROM numbers ORDER BY n DESC", "7: by 0 desc []", "5,4,3,2,1"),
        (
            "SELECT n FROM numbers WHERE n IN (2,3)",
            "7: 0Eq [Integer(2)]|7: 0Eq [Integer(3)]",
            "2,3",
        ),
        ("SELECT rowid FROM numbers WHERE b = x''", "7: 2Eq [Blob([])]", "10,20,30,40,50"),
    ];
    for (sql, scan, expected) in table {
        let (conn, numbers) = open();
        assert_eq!(rows(&conn, sql).unwrap(), expected, "{sql}");
        assert_eq!(numbers.scans.take().join("|"), scan, "{sql}");
    }
}

#[test]
fn what_is_unusable_gets_no_argument() {
    let (conn, numbers) = open();
    conn.db().execute_batch("CREATE TABLE u(k); INSERT INTO u VALUES(2),(4)").unwrap();
    let sql = "SELECT n FROM u CROSS JOIN numbers WHERE n = k";
    assert_eq!(rows(&conn, sql).unwrap(), "2,4");
    let sql = "SELECT n FROM numbers CROSS JOIN u WHERE n = k";
    assert_eq!(rows(&conn, sql).unwrap(), "2,4");
    let scans = numbers.scans.take();
    assert!(scans.contains(&"7: 0Eq [Integer(2)]".into()), "{scans:?}");
    assert!(scans.last().unwrap().ends_with("[]"), "{scans:?}");
}

#[test]
fn inserts_reach_the_table_and_nothing_else_does() {
    let (conn, numbers) = open();
    conn.db().execute_batch("INSERT INTO numbers(t, n) VALUES('x', 1)").unwrap();
    assert_eq!(conn.db().last_insert_rowid(), 99);
    let inserted = numbers.inserted.take();
    let expected = [Value::Integer(1), Value::Text(b"x".into()), Value::Null, Value::Null];
    assert_eq!(inserted, [expected.to_vec()]);
    let table = [
        ("INSERT INTO numbers(n) VALUES(13)", ffi::SQLITE_CONSTRAINT_CHECK, "13 is refused"),
        ("INSERT OR REPLACE INTO numbers(n) VALUES(1),(13)", 275, "13 is refused"),
        ("UPDATE numbers SET n = 2", ffi::SQLITE_READONLY, "table is read-only"),
        ("DELETE FROM numbers WHERE n = 1", ffi::SQLITE_READONLY, "table is read-only"),
    ];
    for (sql, code, message) in table {
        let error = conn.db().execute(sql, &[]).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (code, message), "{sql}");
    }
}

#[test]
fn errors_and_panics_are_errors() {
    for place in ["filter", "next", "column", "rowid"] {
        let (conn, _) = open();
        let sql = format!("SELECT n, rowid FROM numbers('fail {place}')");
        let error = rows(&conn, &sql).unwrap_err();
        assert_eq!((error.code, error.message.clone()), (1, format!("error in {place}")));
        assert_eq!(rows(&conn, "SELECT count(*) FROM numbers").unwrap(), "5", "after {place}");
    }
    for place in ["filter", "next", "eof", "column", "rowid"] {
        let (conn, _) = open();
        conn.db().execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
        let sql = format!("SELECT n, rowid FROM numbers('panic {place}')");
        let error = rows(&conn, &sql).unwrap_err();
        assert!(error.message.contains(&format!("boom in {place}")), "{place}: {error}");
        let error = rows(&conn, "SELECT n FROM numbers").unwrap_err();
        assert!(error.message.contains("poisoned by an earlier panic"), "{place}: {error}");
        assert_eq!(rows(&conn, "SELECT a FROM t").unwrap(), "1");
    }
    let (conn, _) = open();
    let error = rows(&conn, "SELECT n FROM numbers WHERE fault IS 'x'").unwrap_err();
    assert_eq!(error.message, "no plan with IS");
}

#[test]
fn a_table_may_be_used_from_triggers_only_if_innocuous() {
    for is_innocuous in [true, false] {
        let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
        conn.db().create_table("numbers", is_innocuous, Numbers::default()).unwrap();
        let script = "PRAGMA trusted_schema=OFF; CREATE TABLE t(a);
            CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO numbers(n) VALUES(1); END;
            INSERT INTO t VALUES(1)";
        assert_eq!(conn.db().execute_batch(script).is_ok(), is_innocuous);
    }
}

#[test]
fn a_bad_declaration_is_an_error_of_its_first_use() {
    struct Bad;
    impl Table for Bad {
        fn declaration(&self) -> String {
            "CREATE TABLE".into()
        }
        fn plan(&self, _: &[Constraint], _: &[OrderTerm]) -> Result<Plan> {
            Ok(Plan::default())
        }
        fn open(&self) -> Result<Box<dyn Cursor>> {
            Ok(Box::new(anabranch_sqlite::vtab::Nothing))
        }
    }
    let (conn, _) = open();
    conn.db().create_table("bad", false, Bad).unwrap();
    assert!(rows(&conn, "SELECT * FROM bad").is_err());
    assert_eq!(rows(&conn, "SELECT count(*) FROM numbers").unwrap(), "5");
}
