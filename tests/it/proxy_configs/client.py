"""A client behind a TLS proxy, with libraries that are not presenced's: prints what it was told.

client.py PORT CA TOKEN FROM asks for alice over a session and over HTTP, from the address FROM.
"""

import asyncio
import json
import ssl
import sys
import urllib.request

from websockets.asyncio.client import connect

port, ca, token, source = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
tls = ssl.create_default_context(cafile=ca)
here = f"localhost:{port}"


async def over_session():
    # As a page of the same host has it.
    session = connect(
        f"wss://{here}/ws",
        ssl=tls,
        host="127.0.0.1",
        port=port,
        local_addr=(source, 0),
        origin=f"https://{here}",
        subprotocols=["presence.v1", f"bearer.{token}"],
        proxy=None,
    )
    async with session as session:
        assert session.subprotocol == "presence.v1", session.subprotocol
        await session.send('{"pull":1,"users":["alice","nobody"]}')
        return json.loads(await asyncio.wait_for(session.recv(), 10))


def over_http():
    request = urllib.request.Request(
        f"https://{here}/v1/presence?user=alice&user=nobody",
        headers={"Authorization": f"Bearer {token}", "Origin": f"https://{here}"},
    )
    with urllib.request.urlopen(request, timeout=10, context=tls) as answer:
        allowed = answer.headers["Access-Control-Allow-Origin"]
        assert allowed == f"https://{here}", allowed
        return json.load(answer)


print(json.dumps({"session": asyncio.run(over_session()), "http": over_http()}))
