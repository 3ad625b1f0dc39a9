// One writer and many readers of one document: small edits of a text, as fast as the readers
// follow. Prints what came; bounded in count.
//
//     node load.cjs NODE_MODULES PORT READERS EDITS WINDOW

const { createRequire } = require('node:module')
const [modules, port, nReaders, nEdits, window] = process.argv.slice(2)
const load = createRequire(modules + '/here.js')
const { HocuspocusProvider } = load('@hocuspocus/provider')
const Y = load('yjs')

// Node.js before 22 has no WebSocket of its own.
globalThis.WebSocket ??= load('ws')

function connect() {
  return new Promise((resolve) => {
    const document = new Y.Doc()
    const url = `ws://127.0.0.1:${port}`
    const provider = new HocuspocusProvider({
      url, name: 'notes', document, onSynced: () => resolve({ provider, document }),
    })
  })
}

async function main() {
  const writer = await connect()
  const readers = await Promise.all(Array.from({ length: Number(nReaders) }, connect))
  const came = readers.map(() => 0)
  let wake = () => {}
  readers.forEach(({ document }, n) => {
    document.on('update', () => {
      came[n] += 1
      wake()
    })
  })
  console.log(JSON.stringify({ ready: true }))
  const text = writer.document.getText('body')
  const start = process.hrtime.bigint()
  for (let edit = 1; edit <= Number(nEdits); edit += 1) {
    text.insert(text.length, 'note 0123456789 ')
    while (Math.min(...came) <= edit - Number(window)) {
      await new Promise((resolve) => { wake = resolve })
    }
  }
  while (Math.min(...came) < Number(nEdits)) {
    await new Promise((resolve) => { wake = resolve })
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  const lengths = new Set(readers.map(({ document }) => document.getText('body').length))
  const isWhole = lengths.size === 1 && lengths.has(text.length)
  console.log(JSON.stringify({ deliveries: came.reduce((a, b) => a + b, 0), seconds, isWhole }))
  process.exit(0)
}

main()
