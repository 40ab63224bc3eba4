// Code shared by both Node.js peers: flags, checking a token, and writing users that were heard from to memcached.

import { createSecretKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs, promisify } from "node:util";
import jwt from "jsonwebtoken";
import Memcached from "memcached";

const FLUSH_INTERVAL_MS = 5_000;
const TTL_S = 60;

const text = { type: "string" };
const { values: flags } = parseArgs({
    options: {
        listen: text,
        "ping-interval": { type: "string", default: "25s" },
        "ping-timeout": { type: "string", default: "20s" },
        "jwt-secret-file": text,
        memcached: text,
    },
});

/** `--listen` as `server.listen` takes it. */
export const address = { host: flags.listen.split(":")[0], port: Number(flags.listen.split(":")[1]) };
export const pingIntervalMs = milliseconds(flags["ping-interval"]);
export const pingTimeoutMs = milliseconds(flags["ping-timeout"]);

// The key is created once, as `verify` would create one from a string for each token.
const key = createSecretKey(readFileSync(flags["jwt-secret-file"], "utf8").replace(/\n$/, ""), "utf8");
// By default the client closes a connection after 5 idle seconds, which is the flush interval.
const memcached = new Memcached(flags.memcached, { idle: 60_000 });
const set = promisify(memcached.set.bind(memcached));
// While the first connection opens, the pool counts as full, and commands would wait for a second.
await promisify(memcached.version.bind(memcached))();

/** Sessions heard from since the last flush; of a user's many, one. */
const heard = new Map();
setInterval(flush, FLUSH_INTERVAL_MS);

/** Whom the token is for; throws if it is not good. */
export function verify(token) {
    return jwt.verify(token, key, { algorithms: ["HS256"] }).sub;
}

/** A user has come: what is written about them, now and while they are heard from. */
export function connected(user, socketId) {
    const session = { user, value: { serverId: "peer", connectedAt: Date.now(), socketId } };
    write(session).catch(complain);
    return session;
}

export function hear(session) {
    heard.set(session.user, session);
}

async function flush() {
    const sessions = [...heard.values()];
    heard.clear();
    await Promise.all(sessions.map(write)).catch(complain);
}

function write({ user, value }) {
    return set(`user:${user}:online`, value, TTL_S);
}

function complain(error) {
    console.error("memcached:", error);
}

/** Of 25s or 500ms. */
function milliseconds(duration) {
    const [, number, unit] = /^(\d+)(ms|s)$/.exec(duration);
    return Number(number) * (unit === "s" ? 1000 : 1);
}
