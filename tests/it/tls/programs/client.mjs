// Sessions with the library `ws` over Node.js's TLS.
//
//     node client.mjs PORT AUTHORITY TOKEN USER

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { WebSocket } = createRequire(new URL('../../../../client/package.json', import.meta.url))('ws');
const [port, authority, token, user] = process.argv.slice(2);
const ca = readFileSync(authority);
const PINGS = 3;

async function session(version) {
  const ws = new WebSocket(`wss://127.0.0.1:${port}/ws`, {
    ca,
    servername: 'same.example',
    minVersion: version,
    maxVersion: version,
    headers: { Authorization: `Bearer ${token}` },
    handshakeTimeout: 20_000,
  });
  const closed = once(ws, 'close');
  let pings = 0;
  ws.on('ping', () => {
    pings += 1;
    if (pings === PINGS) ws.send(JSON.stringify({ pull: 1, users: [user, 'nobody'] }));
  });
  await once(ws, 'open');
  assert.equal(ws._socket.getProtocol(), version);
  const [answer] = await once(ws, 'message');
  assert.deepEqual(Object.keys(JSON.parse(answer).online), [user]);
  const ended = once(ws._socket, 'end');
  ws.close(1000);
  const [code] = await closed;
  assert.equal(code, 1000);
  await ended;
  console.log(version);
}

await Promise.all(['TLSv1.3', 'TLSv1.2'].map(session));
