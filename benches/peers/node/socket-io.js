// The stack that presenced replaces: socket.io with its WebSocket transport, a middleware that checks the token, and
// heartbeats that are collected and flushed.

import { createServer } from "node:http";
import { Server } from "socket.io";
import { address, connected, hear, pingIntervalMs, pingTimeoutMs, verify } from "./presence.js";

const http = createServer();
const io = new Server(http, {
    transports: ["websocket"],
    perMessageDeflate: false,
    httpCompression: false,
    serveClient: false,
    pingInterval: pingIntervalMs,
    pingTimeout: pingTimeoutMs,
});

// The handshake's request is not kept, as socket.io's manual recommends to save memory.
io.engine.on("connection", (connection) => {
    connection.request = null;
});

io.use((socket, next) => {
    try {
        socket.data.user = verify(socket.handshake.auth.token);
        next();
    } catch (error) {
        next(error);
    }
});

io.on("connection", (socket) => {
    const session = connected(socket.data.user, socket.id);
    // Emitted for each pong.
    socket.conn.on("heartbeat", () => hear(session));
    // presenced answers this event, too: it is timed at both.
    socket.on("presence:pull", (_users, answer) => answer({ online: {} }));
});

http.listen(address, () => console.log(`listening on ${address.host}:${address.port}`));
