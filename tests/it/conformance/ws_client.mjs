// Conformance to RFC 6455, seen by the Node.js library `ws`.
//
//     node ws_client.mjs ADDRESS MAX_MESSAGE
//
// Talks to examples/echo.rs. `ws` comes from the client's node_modules.

import assert from 'node:assert/strict';
import { on, once } from 'node:events';
import { createRequire } from 'node:module';

const { WebSocket } = createRequire(new URL('../../../client/package.json', import.meta.url))('ws');
const [address, maxMessage] = [process.argv[2], Number(process.argv[3])];

/** An open session; whatever goes wrong with it fails the test. */
async function open(options = {}) {
  const ws = new WebSocket(`ws://${address}/`, { maxPayload: 0, handshakeTimeout: 20_000, ...options });
  // Listening from the start: two messages may come in one go.
  ws.messages = on(ws, 'message');
  await once(ws, 'open');
  return ws;
}

/** What comes back of a message. */
async function echoed(ws) {
  const [data, isBinary] = (await ws.messages.next()).value;
  return isBinary ? data : data.toString();
}

async function close(ws, ...reason) {
  const closed = once(ws, 'close');
  ws.close(...reason);
  return (await closed)[0];
}

/** The server's close code after it got these bytes, which `ws` would not have sent. */
async function closedWith(bytes) {
  const ws = await open({ perMessageDeflate: false });
  const closed = once(ws, 'close');
  ws._socket.write(bytes);
  return (await closed)[0];
}

const tests = {
  async 'messages of all lengths'() {
    const ws = await open();
    for (const length of [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, maxMessage]) {
      ws.send('x'.repeat(length));
      assert.equal((await echoed(ws)).length, length);
      const data = Buffer.alloc(length, 'presenced');
      ws.send(data);
      assert(data.equals(await echoed(ws)), `${length} bytes`);
    }
    assert.equal(await close(ws, 1000), 1000);
  },

  async 'many messages come back in order'() {
    const ws = await open();
    const sent = Array.from({ length: 5_000 }, (_, number) => `${number} ${'.'.repeat(number % 300)}`);
    for (const text of sent) ws.send(text);
    for (const text of sent) assert.equal(await echoed(ws), text);
    await close(ws);
  },

  async 'a client that is slow to read gets everything'() {
    const ws = await open();
    const data = Buffer.alloc(maxMessage, 'slow');
    ws.pause();
    ws.send(data);
    ws.send('after');
    await new Promise((resolve) => ws._socket.once('drain', resolve));
    ws.resume();
    assert(data.equals(await echoed(ws)));
    assert.equal(await echoed(ws), 'after');
    await close(ws);
  },

  async 'fragments, pings between them'() {
    const ws = await open();
    const pongs = [];
    ws.on('pong', (data) => pongs.push(data.toString()));
    for (const binary of [false, true]) {
      ws.send('Hel', { fin: false, binary });
      ws.ping('between');
      ws.send('', { fin: false });
      ws.send('lo', { fin: true });
      const message = await echoed(ws);
      assert.equal(message.toString(), 'Hello');
      assert.equal(typeof message === 'string', !binary);
    }
    assert.deepEqual(pongs, ['between', 'between']);
    await close(ws);
  },

  async 'ping payloads up to 125 bytes'() {
    const ws = await open();
    for (const length of [0, 1, 124, 125]) {
      const payload = Buffer.alloc(length, 7);
      const pong = once(ws, 'pong');
      ws.ping(payload);
      assert(payload.equals((await pong)[0]));
    }
    await close(ws);
  },

  async 'no extension is agreed on'() {
    const ws = await open({ perMessageDeflate: true });
    assert.equal(ws.extensions, '');
    ws.send('x'.repeat(10_000));
    assert.equal(await echoed(ws), 'x'.repeat(10_000));
    await close(ws);
  },

  async 'closes'() {
    for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]) {
      assert.equal(await close(await open(), code, 'reason'), code);
    }
    assert.equal(await close(await open()), 1005);
  },

  async 'what the RFC forbids'() {
    for (const [bytes, code] of [
      ['8105', 1002], // not masked
      ['c18000000000', 1002], // RSV1 without deflate
      ['838000000000', 1002], // an opcode that is none
      ['098000000000', 1002], // a ping in parts
      ['81fe007d00000000', 1002], // a length that is not minimal
      ['808000000000', 1002], // more of nothing
      ['888100000000ff', 1002], // half a close code
      ['88820000000003ed', 1002], // 1005 is never sent
      ['818100000000ff', 1007], // not UTF-8
      ['82ff0000001000000000', 1009], // 64 GiB, by its head alone
    ]) {
      assert.equal(await closedWith(Buffer.from(bytes, 'hex')), code, bytes);
    }
  },
};

for (const [name, test] of Object.entries(tests)) {
  const timer = setTimeout(() => assert.fail(`${name}: no end after 60 s`), 60_000);
  await test();
  clearTimeout(timer);
  console.log('ok', name);
}
process.exit(0);
