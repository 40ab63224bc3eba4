// The same server without socket.io, on the library below it, with pings spread evenly over the interval.

import { randomUUID } from "node:crypto";
import { WebSocketServer } from "ws";
import { address, connected, hear, pingIntervalMs, verify } from "./presence.js";

const TICK_MS = 10;

const server = new WebSocketServer({
    ...address,
    path: "/ws",
    perMessageDeflate: false,
    clientTracking: false,
    verifyClient,
});
server.on("connection", open);
server.on("listening", () => console.log(`listening on ${address.host}:${address.port}`));

/** In any order: a session that closes leaves its place to the last. */
const sockets = [];
let next = 0;
let due = 0;
let swept = performance.now();
setInterval(sweep, TICK_MS);

/** Answers 401 if it returns false. */
function verifyClient({ req }) {
    try {
        req.user = verify(req.headers.authorization?.replace(/^Bearer /, ""));
        return true;
    } catch {
        return false;
    }
}

function open(socket, request) {
    socket.session = connected(request.user, randomUUID());
    socket.isAlive = true;
    socket.place = sockets.push(socket) - 1;
    socket.on("pong", pong);
    socket.on("close", close);
    // Without a listener an error would end the process. A "close" event follows.
    socket.on("error", () => {});
}

// All sockets share these listeners; `this` is the socket.

function pong() {
    this.isAlive = true;
    hear(this.session);
}

function close() {
    const last = sockets.pop();
    if (last !== this) {
        sockets[this.place] = last;
        last.place = this.place;
    }
}

/** Pings as many as the time since the last sweep is of the interval, and ends who did not answer the ping before. */
function sweep() {
    const now = performance.now();
    due += (sockets.length * (now - swept)) / pingIntervalMs;
    swept = now;
    for (; due >= 1; due--) {
        next = next < sockets.length ? next : 0;
        const socket = sockets[next++];
        if (socket?.isAlive) {
            socket.isAlive = false;
            socket.ping();
        } else {
            socket?.terminate();
        }
    }
}
