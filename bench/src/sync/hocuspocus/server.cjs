// A Hocuspocus server as its package makes it, without extensions: documents live in memory
// only. Prints the port, and ends with standard input.
//
//     node server.cjs NODE_MODULES

const { createRequire } = require('node:module')
const load = createRequire(process.argv[2] + '/here.js')
const { Server } = load('@hocuspocus/server')

const server = new Server({ port: 0, address: '127.0.0.1', quiet: true, stopOnSignals: false })
server.listen().then(() => {
  console.log(JSON.stringify({ port: server.address.port, pid: process.pid }))
})
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
