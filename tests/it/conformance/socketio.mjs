// Engine.IO 4 and Socket.IO 5 as a client sees them on the wire, against the two echo examples:
// node socketio.mjs ENGINE_ADDRESS SOCKET_ADDRESS
// Both have --ping-interval 1000 --ping-timeout 800, and --connect-timeout 2000. Cases run side by side.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const { WebSocket } = createRequire(new URL("../../../client/", import.meta.url))("ws");
const [engineAddress, socketAddress] = process.argv.slice(2);
const ENGINE = `http://${engineAddress}/engine.io/`;
const SOCKET = `http://${socketAddress}/socket.io/`;
const POLLING = "?EIO=4&transport=polling";
const WEBSOCKET = "?EIO=4&transport=websocket";
const SEPARATOR = "\x1e";

/** A session that polls: the address of its requests. */
async function polls(base) {
  const opened = await (await fetch(base + POLLING)).text();
  return `${base}${POLLING}&sid=${JSON.parse(opened.slice(1)).sid}`;
}

const get = async (address) => (await fetch(address)).text();
const post = (address, body) => fetch(address, { method: "POST", body });

/** What polls bring beside pings, which may come at any time on a busy machine and are answered. */
async function hears(address) {
  for (;;) {
    const packets = (await get(address)).split(SEPARATOR);
    const others = packets.filter((packet) => packet !== "2");
    if (others.length < packets.length) await post(address, "3");
    if (others.length > 0) return others.join(SEPARATOR);
  }
}

/** A WebSocket whose messages wait until they are asked for; pings are among them, or else are answered. */
function opens(address, { withPings = false } = {}) {
  const socket = new WebSocket(address.replace("http", "ws"));
  const messages = [];
  const readers = [];
  socket.on("message", (data, isBinary) => {
    const message = isBinary ? [...data] : data.toString();
    if (message === "2" && !withPings) return socket.send("3");
    const reader = readers.shift();
    if (reader) reader(message);
    else messages.push(message);
  });
  socket.on("error", () => {});
  const opened = new Promise((resolve) => socket.once("open", resolve));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  const next = () =>
    messages.length > 0 ? Promise.resolve(messages.shift()) : new Promise((resolve) => readers.push(resolve));
  return { socket, opened, closed, next, send: (data) => socket.send(data), close: () => socket.close() };
}

/** The same of a session of Socket.IO that is connected to `/`. */
async function connects() {
  const client = opens(SOCKET + WEBSOCKET);
  await client.next();
  client.send("40");
  assert.match(await client.next(), /^40\{"sid":"[^"]+"\}$/);
  assert.equal(await client.next(), '42["auth",{}]');
  return client;
}

const cases = { concurrency: true, timeout: 10_000 };

test("Engine.IO", cases, async (t) => {
  const over = (name, run) => t.test(name, run);
  await Promise.all([
    over("a handshake by polling opens a session", async () => {
      const answer = await fetch(ENGINE + POLLING);
      assert.equal(answer.status, 200);
      const opened = await answer.text();
      assert.equal(opened[0], "0");
      const { sid, ...rest } = JSON.parse(opened.slice(1));
      assert.equal(typeof sid, "string");
      assert.deepEqual(rest, { upgrades: ["websocket"], pingInterval: 1000, pingTimeout: 800, maxPayload: 1_000_000 });
    }),
    over("a handshake over a WebSocket offers no upgrade", async () => {
      const client = opens(ENGINE + WEBSOCKET);
      assert.deepEqual(JSON.parse((await client.next()).slice(1)).upgrades, []);
      client.close();
    }),
    over("bad handshakes are refused", async () => {
      for (const query of ["?transport=polling", "?EIO=abc&transport=polling", "?EIO=4", "?EIO=4&transport=abc"]) {
        assert.equal((await fetch(ENGINE + query)).status, 400, query);
        await opens(ENGINE + query.replace("polling", "websocket")).closed;
      }
      for (const method of ["POST", "PUT"]) {
        assert.equal((await fetch(ENGINE + POLLING, { method })).status, 400, method);
      }
    }),
    over("polls and POSTs echo text and binary, in order", async () => {
      const address = await polls(ENGINE);
      for (const body of ["4hello", ["4a", "4b", "4c"].join(SEPARATOR), `4hello${SEPARATOR}bAQIDBA==`]) {
        const answer = await post(address, body);
        assert.deepEqual([answer.status, await answer.text()], [200, "ok"]);
        assert.equal(await hears(address), body);
      }
    }),
    over("a bad packet ends a session that polls", async () => {
      const address = await polls(ENGINE);
      assert.equal((await post(address, "abc")).status, 400);
      assert.equal((await fetch(address)).status, 400);
    }),
    over("two polls at once end a session", async () => {
      const address = await polls(ENGINE);
      const answers = await Promise.all([fetch(address), fetch(address)]);
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400]);
      const first = answers.find(({ status }) => status === 200);
      assert.equal((await first.text()).split(SEPARATOR).at(-1), "1");
    }),
    over("a WebSocket echoes text and binary", async () => {
      const client = opens(ENGINE + WEBSOCKET);
      await client.next();
      client.send("4hello");
      assert.equal(await client.next(), "4hello");
      client.send(Buffer.from([1, 2, 3]));
      assert.deepEqual(await client.next(), [1, 2, 3]);
      client.close();
    }),
    over("a bad packet closes a WebSocket", async () => {
      const client = opens(ENGINE + WEBSOCKET);
      await client.next();
      client.send("abc");
      await client.closed;
    }),
    over("pings come by polling, and pongs keep the session", async () => {
      const address = await polls(ENGINE);
      for (let round = 0; round < 3; round += 1) {
        assert.equal(await get(address), "2");
        assert.equal((await post(address, "3")).status, 200);
      }
    }),
    over("pings come over a WebSocket, and pongs keep the session", async () => {
      const client = opens(ENGINE + WEBSOCKET, { withPings: true });
      await client.next();
      for (let round = 0; round < 3; round += 1) {
        assert.equal(await client.next(), "2");
        client.send("3");
      }
      client.close();
    }),
    over("without a pong a session ends", async () => {
      const address = await polls(ENGINE);
      const client = opens(ENGINE + WEBSOCKET, { withPings: true });
      await client.closed;
      // That one began later.
      assert.equal((await fetch(address)).status, 400);
    }),
    over("a client closes its session", async () => {
      let address, answer;
      do {
        address = await polls(ENGINE);
        [answer] = await Promise.all([fetch(address), post(address, "1")]);
        // The end of the session may overtake the poll, which is then of no session.
      } while (answer.status === 400);
      assert.equal(answer.status, 200);
      assert.ok(["6", "1", "2"].includes(await answer.text()));
      assert.equal((await fetch(address)).status, 400);
      const client = opens(ENGINE + WEBSOCKET);
      await client.next();
      client.send("1");
      await client.closed;
    }),
    over("a session goes over to a WebSocket", async () => {
      const address = await polls(ENGINE);
      const waiting = hears(address);
      const client = opens(address.replace("polling", "websocket"));
      await client.opened;
      client.send("2probe");
      assert.equal(await client.next(), "3probe");
      assert.equal(await waiting, "6");
      client.send("5");
      client.send("4hello");
      assert.equal(await client.next(), "4hello");
      assert.equal((await fetch(address)).status, 400);
      assert.equal((await post(address, "4x")).status, 400);
      client.close();
    }),
    over("a WebSocket that does not probe changes nothing", async () => {
      const address = await polls(ENGINE);
      const client = opens(address.replace("polling", "websocket"));
      await client.opened;
      client.send("5");
      await client.closed;
      await post(address, "4still here");
      assert.equal(await hears(address), "4still here");
    }),
    over("a second WebSocket is refused", async () => {
      const client = opens(ENGINE + WEBSOCKET);
      const { sid } = JSON.parse((await client.next()).slice(1));
      await opens(`${ENGINE}${WEBSOCKET}&sid=${sid}`).closed;
      client.send("4hello");
      assert.equal(await client.next(), "4hello");
      client.close();
    }),
  ]);
});

test("Socket.IO", cases, async (t) => {
  const over = (name, run) => t.test(name, run);
  await Promise.all([
    over("clients connect to namespaces, with and without a payload", async () => {
      const client = await connects();
      client.send('40/custom,{"token":"123"}');
      assert.match(await client.next(), /^40\/custom,\{"sid":"[^"]+"\}$/);
      assert.equal(await client.next(), '42/custom,["auth",{"token":"123"}]');
      client.send("40/other");
      assert.equal(await client.next(), '44/other,{"message":"Invalid namespace"}');
      client.close();
    }),
    over("who does not connect in time is closed", async () => {
      const client = opens(SOCKET + WEBSOCKET);
      client.socket.on("message", (data) => data.toString() === "2" && client.send("3"));
      await client.closed;
    }),
    over("what is not due closes", async () => {
      const early = opens(SOCKET + WEBSOCKET);
      await early.next();
      early.send('42["message"]');
      await early.closed;
      const bad = ["40", "4abc", "42{}", "42abc", '42["connect"]', "42", "422", "45", "43", "4", '44{"message":"x"}'];
      await Promise.all(
        bad.map(async (packet) => {
          const client = await connects();
          client.send(packet);
          await client.closed;
        }),
      );
    }),
    over("events and acknowledgements", async () => {
      const client = await connects();
      client.send('42["message",1,"2",{"3":[true]}]');
      assert.equal(await client.next(), '42["message-back",1,"2",{"3":[true]}]');
      client.send('42456["message-with-ack",1,"2",{"3":[false]}]');
      assert.equal(await client.next(), '43456[1,"2",{"3":[false]}]');
      client.close();
    }),
    over("binary events and acknowledgements", async () => {
      const client = await connects();
      const places = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
      for (const [sent, back] of [
        [`452-["message",${places}]`, `452-["message-back",${places}]`],
        [`452-789["message-with-ack",${places}]`, `462-789[${places}]`],
      ]) {
        client.send(sent);
        client.send(Buffer.from([1, 2, 3]));
        client.send(Buffer.from([4, 5, 6]));
        assert.equal(await client.next(), back);
        assert.deepEqual(await client.next(), [1, 2, 3]);
        assert.deepEqual(await client.next(), [4, 5, 6]);
      }
      client.close();
    }),
    over("leaving a namespace leaves the connection", async () => {
      const client = await connects();
      client.send("40/custom");
      await client.next();
      await client.next();
      client.send("41/custom");
      client.send('42["message","x"]');
      assert.equal(await client.next(), '42["message-back","x"]');
      client.send("41");
      // The connection is there still, and may be used again.
      client.send("40");
      assert.match(await client.next(), /^40\{"sid":"[^"]+"\}$/);
      client.close();
    }),
    over("the same by polling", async () => {
      const address = await polls(SOCKET);
      await post(address, "40");
      const [connected, auth] = (await hears(address)).split(SEPARATOR);
      assert.match(connected, /^40\{"sid":"[^"]+"\}$/);
      assert.equal(auth, '42["auth",{}]');
      const place = '{"_placeholder":true,"num":0}';
      await post(address, `451-["message",${place}]${SEPARATOR}bAQID`);
      assert.equal(await hears(address), `451-["message-back",${place}]${SEPARATOR}bAQID`);
    }),
  ]);
});
