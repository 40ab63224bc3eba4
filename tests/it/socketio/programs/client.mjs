// Clients of socket.io-client that do what they are told, and tell what happens to them.
//
//     node client.mjs PACKAGE
//
// Each line on standard input is an order, each line on standard output an event; both are JSON.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(new URL('../../../../client/package.json', import.meta.url));
const io = require(process.argv[2]);

/** @type {Map<string, {socket: any, token: string | null}>} */
const clients = new Map();
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const orders = {
  open({ name, url, namespace = '', token = null, options = {} }) {
    const client = { token, socket: null };
    // A function is asked for each connection.
    const auth = (give) => give(client.token === null ? {} : { token: client.token });
    const socket = io(`${url}${namespace}`, { auth, ...options });
    client.socket = socket;
    clients.set(name, client);
    socket.on('connect', () => tell({ name, on: 'connect', id: socket.id }));
    socket.on('disconnect', (reason) => tell({ name, on: 'disconnect', reason }));
    socket.on('connect_error', ({ message, data }) => tell({ name, on: 'connect_error', message, data }));
    socket.onAny?.((...args) => tell({ name, on: 'event', args }));
  },
  token({ name, token }) {
    clients.get(name).token = token;
  },
  emit({ name, event, args = [] }) {
    clients.get(name).socket.emit(event, ...args, (...args) => tell({ name, on: 'ack', args }));
  },
  connect({ name }) {
    clients.get(name).socket.connect();
  },
  disconnect({ name }) {
    clients.get(name).socket.disconnect();
  },
};

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const order = JSON.parse(line);
  orders[order.do](order);
});
lines.on('close', () => process.exit(0));
