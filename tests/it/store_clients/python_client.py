"""The store, seen by pymemcache and python-memcached.

    python python_client.py HOST PORT
"""

import sys

import memcache
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

HOST, PORT = sys.argv[1], int(sys.argv[2])
PATIENCE = 20


def pymemcache(client):
    client.flush_all()
    assert client.set("a", b"1", noreply=False) is True
    assert client.get("a") == b"1"
    assert client.add("a", b"2", noreply=False) is False
    assert client.replace("b", b"2", noreply=False) is False
    assert client.append("a", b"2", noreply=False) and client.prepend("a", b"0", noreply=False)
    assert client.get("a") == b"012"
    assert client.incr("a", 5) == 17 and client.decr("a", 20) == 0
    value, cas = client.gets("a")
    # As memcached does, a smaller number is padded.
    assert value == b"0  "
    assert client.cas("a", b"new", cas) is True
    assert client.cas("a", b"newer", cas) is False
    assert client.cas("nothing", b"x", cas) is None
    assert client.touch("a", 100, noreply=False) is True
    assert client.set_many({f"k{number}": b"v" * number for number in range(500)}, noreply=False) == []
    assert client.get_many([f"k{number}" for number in range(600)]).keys() == {f"k{number}" for number in range(500)}
    assert client.delete("a", noreply=False) is True and client.delete("a", noreply=False) is False
    assert client.set("gone", b"x", expire=-1, noreply=False) and client.get("gone") is None
    large = bytes(range(256)) * 4000
    assert client.set("large", large, noreply=False) and client.get("large") == large
    client.set("quiet", b"x", noreply=True)
    assert client.get("quiet") == b"x"


def errors():
    client = Client((HOST, PORT), timeout=PATIENCE)
    try:
        client.set("large", b"x" * 2_000_000, noreply=False)
        raise AssertionError("it is too large")
    except MemcacheServerError as error:
        assert b"too large" in error.args[0]
    client.set("text", b"x", noreply=False)
    try:
        client.incr("text", 1)
        raise AssertionError("it is no number")
    except MemcacheClientError:
        pass
    assert client.version().startswith(b"1.6.18")
    stats = client.stats()
    assert stats[b"curr_items"] > 0 and stats[b"version"] and stats[b"limit_maxbytes"] > 0
    assert client.stats("settings")[b"maxconns"] > 0
    client.quit()


def python_memcached():
    client = memcache.Client([f"{HOST}:{PORT}"], debug=1, socket_timeout=PATIENCE, cache_cas=True)
    assert client.flush_all() is None
    assert client.set("a", {"some": "thing"}) and client.get("a") == {"some": "thing"}
    assert client.set("zoe", "zo\u00eb" * 1000, min_compress_len=100) and client.get("zoe") == "zo\u00eb" * 1000
    assert client.set("number", 9) and client.incr("number") == 10 and client.decr("number", 2) == 8
    assert not client.add("a", "x") and client.replace("a", "x") and client.append("a", "y")
    assert client.set_multi({"b": 1, "c": 2}, time=100, key_prefix="p:") == []
    assert client.get_multi(["b", "c", "d"], key_prefix="p:") == {"b": 1, "c": 2}
    assert client.gets("a") == "xy" and client.cas("a", "z") and client.get("a") == "z"
    assert client.touch("a", 100) and client.delete("a") and client.get("a") is None
    assert client.delete_multi(["b", "c"], key_prefix="p:")
    [(_, stats)] = client.get_stats()
    assert int(stats["cmd_set"]) > 0
    assert client.get_slab_stats() and client.get_stats("items")
    client.disconnect_all()


pymemcache(Client((HOST, PORT), timeout=PATIENCE))
pymemcache(PooledClient((HOST, PORT), timeout=PATIENCE))
pymemcache(HashClient([(HOST, PORT)], timeout=PATIENCE))
errors()
python_memcached()
