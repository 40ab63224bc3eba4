#!/usr/bin/env node
// Is the user online? Asks presenced over HTTP.
//
//     PRESENCED_JWT_SECRET=… node by_http.mjs https://presence.example USER…
//
// Or with a service token in PRESENCE_TOKEN instead of the secret. Needs Node.js 20, and no packages.

import { createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const USERS_PER_PULL = 500;
const TIMEOUT_MS = 5_000;
const RETRY_AFTER_S_MAX = 10;

/** Signs a token that may ask about anyone. A server with --jwt-audience or --jwt-issuer wants `aud` or `iss`, too. */
function serviceToken(secret, lifetimeS = 300) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const exp = Math.floor(Date.now() / 1_000) + lifetimeS;
  const claims = { sub: 'push-service', scope: 'presence:read-all', exp };
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Pulls once, or twice if the server is busy, and returns the answer. */
async function post(url, token, users) {
  const ask = () =>
    fetch(`${url.replace(/\/$/, '')}/v1/presence`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ users }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  let response = await ask();
  if (response.status === 429 || response.status === 503) {
    await response.body?.cancel();
    const pauseS = Number(response.headers.get('retry-after') ?? 1);
    await sleep(1_000 * Math.min(Number.isFinite(pauseS) ? pauseS : 1, RETRY_AFTER_S_MAX));
    response = await ask();
  }
  if (!response.ok) throw new Error(`presenced answered ${response.status}: ${await response.text()}`);
  return response.json();
}

/**
 * Returns when those who are online connected (Unix time in ms, by user), and the users about whom nothing is known now.
 * All others are offline.
 */
export async function presence(url, token, users) {
  const online = new Map();
  const unknown = new Set();
  for (let first = 0; first < users.length; first += USERS_PER_PULL) {
    const answer = await post(url, token, users.slice(first, first + USERS_PER_PULL));
    if (answer.invalid) throw new Error(`not the ids of users: ${JSON.stringify(answer.invalid)}`);
    for (const [user, { connectedAt }] of Object.entries(answer.online)) online.set(user, connectedAt);
    for (const user of answer.unknown ?? []) unknown.add(user);
  }
  return { online, unknown };
}

async function main() {
  const [url, ...users] = process.argv.slice(2);
  if (users.length === 0) throw new Error('usage: by_http.mjs URL USER…');
  const { PRESENCE_TOKEN, PRESENCED_JWT_SECRET } = process.env;
  if (!PRESENCE_TOKEN && !PRESENCED_JWT_SECRET) throw new Error('set PRESENCE_TOKEN or PRESENCED_JWT_SECRET');
  const { online, unknown } = await presence(url, PRESENCE_TOKEN || serviceToken(PRESENCED_JWT_SECRET), users);
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
  // fetch() says in `cause` what went wrong.
  console.error(`by_http.mjs: ${error.cause?.message || error.cause?.code || error.message}`);
  process.exitCode = 1;
}
