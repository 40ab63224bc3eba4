"""Clients of python-socketio that do what they are told, and tell what happens to them.

    python client.py sync|async

Each line on standard input is an order, each line on standard output an event; both are JSON.
"""

import asyncio
import json
import os
import sys
import threading

import socketio

lock = threading.Lock()
clients = {}


def tell(**event):
    with lock:
        print(json.dumps(event), flush=True)


class Client:
    """What both kinds have in common."""

    def __init__(self, kind, order):
        self.name = order["name"]
        self.order = order
        self.token = order.get("token")
        self.namespace = order.get("namespace", "/")
        self.sio = kind(reconnection_delay=1)
        told = lambda on, **more: tell(name=self.name, on=on, **more)
        on = lambda event, handler: self.sio.on(event, handler, namespace=self.namespace)
        on("connect", lambda: told("connect", id=self.sio.get_sid(self.namespace)))
        on("disconnect", lambda reason=None: told("disconnect", reason=reason))
        on("connect_error", lambda why=None: told("connect_error", **(why if isinstance(why, dict) else {"message": why})))
        on("*", lambda event, *args: told("event", args=[event, *args]))

    def arguments(self):
        options = self.order.get("options", {})
        return {
            "url": self.order["url"],
            # A function is asked for each connection.
            "auth": lambda: {} if self.token is None else {"token": self.token},
            "transports": options.get("transports"),
            "namespaces": [self.namespace],
            "socketio_path": options.get("path", "/socket.io/"),
            "wait_timeout": 5,
        }

    def emission(self):
        return lambda *args: tell(name=self.name, on="ack", args=list(args))


def sync_main():
    def connect(client):
        try:
            client.sio.connect(**client.arguments())
        except socketio.exceptions.ConnectionError:
            pass  # It has been told.

    for line in sys.stdin:
        order = json.loads(line)
        name = order["name"]
        if order["do"] == "open":
            clients[name] = Client(socketio.Client, order)
        client = clients[name]
        match order["do"]:
            case "open" | "connect":
                threading.Thread(target=connect, args=[client], daemon=True).start()
            case "token":
                client.token = order["token"]
            case "emit":
                args = tuple(order.get("args", []))
                client.sio.emit(order["event"], args, namespace=client.namespace, callback=client.emission())
            case "disconnect":
                client.sio.disconnect()


async def async_main():
    async def connect(client):
        try:
            await client.sio.connect(**client.arguments())
        except socketio.exceptions.ConnectionError:
            pass  # It has been told.

    tasks = set()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        name = order["name"]
        if order["do"] == "open":
            clients[name] = Client(socketio.AsyncClient, order)
        client = clients[name]
        match order["do"]:
            case "open" | "connect":
                tasks.add(loop.create_task(connect(client)))
            case "token":
                client.token = order["token"]
            case "emit":
                args = tuple(order.get("args", []))
                await client.sio.emit(order["event"], args, namespace=client.namespace, callback=client.emission())
            case "disconnect":
                await client.sio.disconnect()


if sys.argv[1] == "sync":
    sync_main()
else:
    asyncio.run(async_main())
# Clients that wait to reconnect have threads that would go on.
os._exit(0)
