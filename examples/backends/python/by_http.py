#!/usr/bin/env python3
"""Is the user online? Asks presenced over HTTP.

    PRESENCED_JWT_SECRET=… python3 by_http.py https://presence.example USER…

Or with a service token in PRESENCE_TOKEN instead of the secret. Needs only the
standard library.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone

USERS_PER_PULL = 500
TIMEOUT_S = 5
RETRY_AFTER_S_MAX = 10


def service_token(secret, lifetime_s=300):
    """Signs a token that may ask about anyone.

    A server with --jwt-audience or --jwt-issuer wants "aud" or "iss", too.
    """

    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = {"alg": "HS256", "typ": "JWT"}
    claims = {
        "sub": "push-service",
        "scope": "presence:read-all",
        "exp": int(time.time()) + lifetime_s,
    }
    signed = b".".join(encode(json.dumps(part).encode()) for part in (head, claims))
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + encode(signature)).decode()


def post(url, token, users):
    """Pulls once, or twice if the server is busy, and returns the answer."""
    request = urllib.request.Request(
        url.rstrip("/") + "/v1/presence",
        # Ids as they are: escaped, 500 long ones would be too much for a body.
        data=json.dumps({"users": users}, ensure_ascii=False).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        if error.code not in (429, 503):
            raise
        pause = error.headers.get("Retry-After", "")
    time.sleep(min(int(pause) if pause.isdecimal() else 1, RETRY_AFTER_S_MAX))
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return json.load(response)


def presence(url, token, users):
    """Returns when those who are online connected (Unix time in ms, by user),
    and the users about whom nothing is known now. All others are offline."""
    online, unknown = {}, set()
    for first in range(0, len(users), USERS_PER_PULL):
        answer = post(url, token, users[first : first + USERS_PER_PULL])
        if invalid := answer.get("invalid"):
            raise ValueError(f"not the ids of users: {invalid}")
        for user, entry in answer["online"].items():
            online[user] = entry["connectedAt"]
        unknown.update(answer.get("unknown", []))
    return online, unknown


def describe(error):
    """What went wrong, with the code of a refusal."""
    if isinstance(error, urllib.error.HTTPError):
        body = error.read(1000).decode(errors="replace")
        return f"presenced answered {error.code}: {body}"
    return str(error)


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: by_http.py URL USER…")
    url, users = sys.argv[1], sys.argv[2:]
    token = os.environ.get("PRESENCE_TOKEN")
    secret = os.environ.get("PRESENCED_JWT_SECRET")
    if not token and not secret:
        sys.exit("set PRESENCE_TOKEN or PRESENCED_JWT_SECRET")
    try:
        online, unknown = presence(url, token or service_token(secret), users)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        sys.exit(f"by_http.py: {describe(error)}")
    for user in users:
        if user in online:
            since = datetime.fromtimestamp(online[user] / 1000, timezone.utc)
            print(f"{user}: online since {since:%Y-%m-%dT%H:%M:%SZ}")
        elif user in unknown:
            # They may be online or offline: send the push notification.
            print(f"{user}: unknown")
        else:
            print(f"{user}: offline")


if __name__ == "__main__":
    main()
