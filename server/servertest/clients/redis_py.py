#!/usr/bin/python3
"""What an application does with redis-py, against HOST:PORT (an empty server). Ends with status 0 if every reply is right."""

import sys
import threading

import redis

host, port = sys.argv[1].rsplit(":", 1)
r = redis.Redis(host=host, port=int(port), decode_responses=True)
raw = redis.Redis(host=host, port=int(port))
checks = 0


def same(got, want):
    global checks
    checks += 1
    if got != want:
        raise AssertionError(f"check {checks}: got {got!r}, expected {want!r}")


def refused(text, fn, *args, **kwargs):
    global checks
    checks += 1
    try:
        got = fn(*args, **kwargs)
    except redis.exceptions.ResponseError as e:
        if text not in str(e):
            raise AssertionError(f"check {checks}: error {e}, expected {text}") from e
        return
    raise AssertionError(f"check {checks}: got {got!r}, expected an error with {text}")


def strings():
    same(r.set("s", "héllo"), True)
    same(r.get("s"), "héllo")
    same(r.get("absent"), None)
    blob = bytes(range(256)) * 40
    same(raw.set("blob", blob), True)
    same(raw.get("blob"), blob)
    same(r.set("s", "x", nx=True), None)
    same(r.set("s", "y", xx=True, get=True), "héllo")
    same(r.incr("n", 41), 41)
    same(r.incr("n"), 42)
    same(r.incrbyfloat("f", 0.1), 0.1)
    same(r.append("s", "z"), 2)
    same(r.mset({"a": 1, "b": 2}), True)
    same(r.mget("a", "b", "absent"), ["1", "2", None])
    same(r.getrange("s", 0, 0), "y")
    same(r.setbit("bits", 7, 1), 0)
    same(r.bitcount("bits"), 1)
    refused("value is not an integer", r.incr, "s")


def expiry():
    same(r.set("e", "v", ex=1000), True)
    assert 990 < r.ttl("e") <= 1000
    same(r.persist("e"), True)
    same(r.ttl("e"), -1)
    same(r.pexpireat("e", 1), True)
    same(r.exists("e"), 0)


def collections():
    same(r.rpush("l", *range(10)), 10)
    same(r.lrange("l", 0, -1), [str(i) for i in range(10)])
    same(r.lpop("l", 2), ["0", "1"])
    same(r.linsert("l", "BEFORE", "5", "x"), 9)
    same(r.lpos("l", "x"), 3)
    same(r.lmove("l", "l2", "LEFT", "RIGHT"), "2")
    same(r.hset("h", mapping={"f": "1", "g": "2"}), 2)
    same(r.hgetall("h"), {"f": "1", "g": "2"})
    same(r.hincrby("h", "f", 9), 10)
    same(r.hmget("h", "f", "absent"), ["10", None])
    same(r.sadd("t", "a", "b", "c"), 3)
    same(r.sadd("u", "b", "c", "d"), 3)
    same(r.smembers("t"), {"a", "b", "c"})
    same(r.sinter("t", "u"), {"b", "c"})
    same(r.sdiffstore("v", "t", "u"), 1)
    same(r.zadd("z", {"a": 1, "b": 2.5, "c": -1}), 3)
    same(r.zrange("z", 0, -1, withscores=True), [("c", -1.0), ("a", 1.0), ("b", 2.5)])
    same(r.zadd("z", {"a": 5}, gt=True, ch=True), 1)
    same(r.zrangebyscore("z", "-inf", "(5"), ["c", "b"])
    same(r.zpopmax("z"), [("a", 5.0)])
    same(r.zrank("z", "b"), 1)
    refused("WRONGTYPE", r.lpush, "h", "x")
    same(r.type("z"), "zset")


def scanning():
    with r.pipeline(transaction=False) as p:
        for i in range(1000):
            p.set(f"scan:{i}", i)
        same(p.execute(), [True] * 1000)
    same(set(r.scan_iter("scan:*", count=77)), {f"scan:{i}" for i in range(1000)})
    r.hset("hs", mapping={f"f{i}": i for i in range(600)})
    same(dict(r.hscan_iter("hs", count=50)), {f"f{i}": str(i) for i in range(600)})
    r.zadd("zs", {f"m{i}": i for i in range(600)})
    same(dict(r.zscan_iter("zs")), {f"m{i}": float(i) for i in range(600)})


def transactions():
    r.set("tx", 1)
    with r.pipeline() as p:
        same(p.incr("tx").incr("tx").get("tx").execute(), [2, 3, "3"])
    with r.pipeline() as p:
        p.watch("tx")
        r.set("tx", "other")
        p.multi()
        p.set("tx", "mine")
        try:
            p.execute()
            raise AssertionError("a watched key changed and EXEC was executed")
        except redis.exceptions.WatchError:
            pass
    same(r.get("tx"), "other")

    def double(p):
        n = int(p.get("tx2") or 1)
        p.multi()
        p.set("tx2", n * 2)

    same(r.transaction(double, "tx2"), [True])
    same(r.get("tx2"), "2")


def blocking():
    got = []
    t = threading.Thread(target=lambda: got.append(r.blpop(["q1", "q2"], timeout=30)))
    t.start()
    while not r.info("clients")["blocked_clients"]:
        pass
    r.rpush("q2", "job")
    t.join(30)
    same(got, [("q2", "job")])
    same(r.blpop("q1", timeout=0.01), None)


def dump():
    for k in ("s", "l", "h", "t", "z", "hs", "zs"):
        raw.restore(k + ":copy", 0, raw.dump(k), replace=True)
        same(r.type(k + ":copy"), r.type(k))
    same(r.hgetall("hs:copy"), r.hgetall("hs"))
    same(r.copy("z", "z:copied"), True)
    same(r.object("encoding", "n"), "int")


def next_message(p):
    m = p.get_message(timeout=10)
    assert m is not None, "no message came"
    return m["type"], m["pattern"], m["channel"], m["data"]


def pubsub():
    p = r.pubsub()
    p.subscribe("news", "other")
    same(sorted(next_message(p) for _ in range(2)), [("subscribe", None, "news", 1), ("subscribe", None, "other", 2)])
    p.psubscribe("n*")
    same(next_message(p), ("psubscribe", None, "n*", 3))
    same(r.publish("news", "wert ß"), 2)
    same(next_message(p), ("message", None, "news", "wert ß"))
    same(next_message(p), ("pmessage", "n*", "news", "wert ß"))
    same(r.publish("nobody", "x"), 1)
    same(next_message(p), ("pmessage", "n*", "nobody", "x"))
    same(sorted(r.pubsub_channels()), ["news", "other"])
    same(r.pubsub_numsub("news", "absent"), [("news", 1), ("absent", 0)])
    same(r.pubsub_numpat(), 1)
    p.unsubscribe("other")
    same(next_message(p), ("unsubscribe", None, "other", 2))
    p.punsubscribe()
    same(next_message(p), ("punsubscribe", None, "n*", 1))
    p.ping()
    same(next_message(p)[0], "pong")
    heard = []
    p.subscribe(handled=lambda m: heard.append(m["data"]))
    p.get_message(timeout=10)
    same(r.publish("handled", "x"), 1)
    p.get_message(timeout=10)
    same(heard, ["x"])
    p.close()


def server():
    same(r.ping(), True)
    same(r.echo("hi"), "hi")
    same(r.config_set("slowlog-max-len", 99), True)
    same(r.config_get("slowlog-max-len"), {"slowlog-max-len": "99"})
    same(r.client_setname("py"), True)
    same(r.client_getname(), "py")
    assert any(c["name"] == "py" for c in r.client_list())
    assert r.info("server")["redis_version"].startswith("7.")
    assert int(r.info()["connected_clients"]) >= 1
    assert "get" in r.command()
    assert r.dbsize() > 1000
    refused("unknown command", r.execute_command, "NOSUCH", "x")
    refused("wrong number of arguments", r.execute_command, "GET")
    other = redis.Redis(host=host, port=int(port), db=3, decode_responses=True)
    same(other.get("s"), None)
    same(other.set("only3", 1), True)
    same(r.swapdb(0, 3), True)
    same(r.get("only3"), "1")
    same(r.swapdb(0, 3), True)
    same(r.flushall(), True)
    same(r.dbsize(), 0)


for part in (strings, expiry, collections, scanning, transactions, blocking, dump, pubsub, server):
    part()
print(f"redis-py {redis.__version__}: {checks} checks passed")
