#!/bin/sh
# Two databases, edited apart and merged, in the sqlite3 program: sh merge.sh PATH/libanabranch
set -eu
load=".load $1"
cd "$(mktemp -d)"
for db in a.db b.db; do
  sqlite3 -bail $db "$load" "CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)" \
    "SELECT crsql_as_crr('todo')" > /dev/null
done
sqlite3 -bail a.db "$load" "INSERT INTO todo VALUES('1', 'buy milk')"
sqlite3 -bail b.db "$load" "INSERT INTO todo VALUES('2', 'call mum')"
sqlite3 -bail a.db "$load" "SELECT writefile('a.delta', ana_export())" > /dev/null
sqlite3 -bail b.db "$load" "SELECT ana_apply(readfile('a.delta'))" > /dev/null
sqlite3 -bail b.db "$load" "SELECT writefile('b.delta', ana_export())" > /dev/null
sqlite3 -bail a.db "$load" "SELECT ana_apply(readfile('b.delta'))" > /dev/null
for db in a.db b.db; do
  sqlite3 -bail $db "$load" "SELECT count(*), ana_words(ana_digest()) FROM todo"
done
rm -r "$PWD"
