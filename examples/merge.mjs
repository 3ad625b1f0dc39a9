// Two databases, edited apart and merged, in Node: node merge.mjs PATH/libanabranch
// (npm install better-sqlite3; NODE_MODULES names another folder that has it)
import { createRequire } from 'node:module'
const modules = process.env.NODE_MODULES ? `${process.env.NODE_MODULES}/` : import.meta.url
const Database = createRequire(modules)('better-sqlite3')
const [a, b] = [new Database(':memory:'), new Database(':memory:')]
for (const db of [a, b]) {
  db.loadExtension(process.argv[2])
  db.exec('CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)')
  db.prepare("SELECT crsql_as_crr('todo')").get()
}
a.exec("INSERT INTO todo VALUES('1', 'buy milk')")
b.exec("INSERT INTO todo VALUES('2', 'call mum')")
const ask = (db, sql, ...values) => db.prepare(sql).pluck().get(...values)
for (const [giver, taker] of [[a, b], [b, a]]) {
  const delta = ask(giver, 'SELECT ana_export(?)', ask(taker, 'SELECT ana_version_vector()'))
  ask(taker, 'SELECT ana_apply(?)', delta)
}
for (const db of [a, b]) console.log(ask(db, "SELECT count(*) || ' ' || ana_words(ana_digest()) FROM todo"))
