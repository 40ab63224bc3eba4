#!/usr/bin/env node
// Is the user online? Looks into memcached, where presenced writes.
//
//     node by_memcached.mjs 10.0.0.5:11211 USER…
//
// For one memcached without TLS and password. Needs Node.js 20, and no packages.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';

const TEMPLATE = 'user:{userId}:online'; // --key-template
// As long as this key says that memcached has been told of everyone, users who are not there are offline.
const MARKER = `presenced:marker:${createHash('md5').update(TEMPLATE).digest('hex').slice(0, 16)}`;
// As many as presenced itself asks for in one command.
const USERS_PER_GET = 100;
const TIMEOUT_MS = 5_000;
// An id with one of these would be another command, or another user's.
const NOT_IN_USER_ID = /[\p{White_Space}\p{Cc}\p{Cs}]/u;

/** Returns the key of a user's entry. */
function keyOf(user) {
  const key = TEMPLATE.replace('{userId}', () => user);
  if (user === '' || NOT_IN_USER_ID.test(user) || Buffer.byteLength(key) > 250) {
    throw new Error(`not the id of a user: ${JSON.stringify(user)}`);
  }
  return key;
}

/** What memcached sends, by lines and by lengths. */
class Replies {
  #chunks;
  #unread = Buffer.alloc(0);

  constructor(socket) {
    this.#chunks = socket[Symbol.asyncIterator]();
  }

  async line() {
    let end;
    while ((end = this.#unread.indexOf('\r\n')) === -1) await this.#more();
    return this.#take(end + 2).toString().slice(0, -2);
  }

  async bytes(length) {
    while (this.#unread.length < length) await this.#more();
    return this.#take(length);
  }

  async #more() {
    const { value, done } = await this.#chunks.next();
    if (done) throw new Error('memcached has closed the connection');
    this.#unread = Buffer.concat([this.#unread, value]);
  }

  #take(length) {
    const taken = this.#unread.subarray(0, length);
    this.#unread = this.#unread.subarray(length);
    return taken;
  }
}

/** Reads the answer to one `get`: values by key. */
async function readValues(replies) {
  const values = new Map();
  for (;;) {
    const line = await replies.line();
    if (line === 'END') return values;
    const [, key, length] = /^VALUE (\S+) \d+ (\d+)$/.exec(line) ?? [];
    if (key === undefined) throw new Error(`memcached answered ${JSON.stringify(line)}`);
    const value = await replies.bytes(Number(length) + 2);
    values.set(key, value.subarray(0, -2).toString());
  }
}

/** Whether memcached has been told of everyone: `{ring} {nonce} … {nonce}`. */
function isWhole(marker) {
  const [, nonce, ...proofs] = marker.split(' ');
  return proofs.includes(nonce);
}

/** Reads an entry; returns undefined for what presenced has not written. */
function connectedAt(value) {
  try {
    const since = JSON.parse(value).connectedAt;
    return Number.isSafeInteger(since) ? since : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Returns when those who are online connected (Unix time in ms, by user), and the users about whom nothing is known now.
 * All others are offline.
 */
export async function presence({ host, port }, users) {
  const online = new Map();
  const unknown = new Set();
  const keys = new Map(users.map((user) => [user, keyOf(user)]));
  const socket = connect({ host, port });
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('memcached does not answer in time')));
  try {
    await once(socket, 'connect');
    const replies = new Replies(socket);
    for (let first = 0; first < users.length; first += USERS_PER_GET) {
      const portion = users.slice(first, first + USERS_PER_GET);
      // The marker comes last: what was lost before was lost with it.
      socket.write(`get ${portion.map((user) => keys.get(user)).join(' ')} ${MARKER}\r\n`);
      const values = await readValues(replies);
      const knowsAll = isWhole(values.get(MARKER) ?? '');
      for (const user of portion) {
        const value = values.get(keys.get(user));
        const since = value === undefined ? undefined : connectedAt(value);
        if (since !== undefined) online.set(user, since);
        else if (value !== undefined || !knowsAll) unknown.add(user);
      }
    }
  } finally {
    socket.destroy();
  }
  return { online, unknown };
}

async function main() {
  const [address = '', ...users] = process.argv.slice(2);
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(address) ?? [];
  if (host === undefined || users.length === 0) throw new Error('usage: by_memcached.mjs HOST:PORT USER…');
  const { online, unknown } = await presence({ host, port: Number(port) }, users);
  for (const user of users) {
    if (online.has(user)) {
      console.log(`${user}: online since ${new Date(online.get(user)).toISOString().slice(0, 19)}Z`);
    } else if (unknown.has(user)) {
      // They may be online or offline: send the push notification.
      console.log(`${user}: unknown`);
    } else {
      console.log(`${user}: offline`);
    }
  }
}

try {
  await main();
} catch (error) {
  console.error(`by_memcached.mjs: ${error.message || error.code}`);
  process.exitCode = 1;
}
