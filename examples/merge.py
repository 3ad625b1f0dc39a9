"""Two databases, edited apart and merged, in Python: python3 merge.py PATH/libanabranch"""
import sqlite3, sys
a, b = (sqlite3.connect(":memory:", isolation_level=None) for _ in "ab")
for db in (a, b):
    db.enable_load_extension(True)
    db.load_extension(sys.argv[1])
    db.execute("CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)")
    db.execute("SELECT crsql_as_crr('todo')").fetchall()
a.execute("INSERT INTO todo VALUES('1', 'buy milk')")
b.execute("INSERT INTO todo VALUES('2', 'call mum')")
for giver, taker in ((a, b), (b, a)):
    lacks = taker.execute("SELECT ana_version_vector()").fetchone()
    delta = giver.execute("SELECT ana_export(?)", lacks).fetchone()
    taker.execute("SELECT ana_apply(?)", delta).fetchall()
for db in (a, b):
    print(db.execute("SELECT count(*), ana_words(ana_digest()) FROM todo").fetchone())
