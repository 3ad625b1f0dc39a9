#!/bin/sh
# Two databases that meet at a relay or in a folder: sh sync.sh ANA dir:/media/stick
# A relay's address is ws://HOST:7440/sync/todo; it wants a token in ANABRANCH_TOKEN.
set -eu
ana=$1 url=$2
cd "$(mktemp -d)"
for db in a.db b.db; do
  "$ana" init $db && "$ana" sql $db "CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)"
  "$ana" crr $db todo
done > /dev/null
"$ana" sql a.db "INSERT INTO todo VALUES('1', 'buy milk')" > /dev/null
"$ana" sql b.db "INSERT INTO todo VALUES('2', 'call mum')" > /dev/null
for db in a.db b.db a.db; do "$ana" sync $db "$url"; done > /dev/null
for db in a.db b.db; do
  "$ana" sql $db --output csv "SELECT count(*), ana_words(ana_digest()) FROM todo" | tail -n 1
done
rm -r "$PWD"
