package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// eventScripts are commands of each family; what they tell of keys is compared with redis-server's, command by command. Lines
// that begin with "@2" are another client's, which blocks.
var eventScripts = map[string]string{
	"strings": `
		set k v
		set k w
		set k v ex 100
		set k v nx
		set k2 v nx
		set k v xx keepttl
		set k v get
		set nosuch v xx
		set n v exat 99999999999
		setnx k v
		setnx k3 v
		setex k 100 v
		psetex k4 100000 v
		getex k
		getex k ex 100
		getex k persist
		getex k persist
		getex k exat 1
		getdel k2
		getdel nosuch
		getset k2 v
		getset new v
		mset a 1 b 2 a 3
		msetnx c 1 d 2
		msetnx c 1 e 2
		append k2 x
		append app x
		append app ""
		setrange app 3 x
		setrange app 3 ""
		setrange sr 3 x
		setrange sr2 0 ""
		incr i
		incrby i 5
		decr i
		decrby i 2
		incrbyfloat f 1.5
		incrbyfloat f 1
		incr k2
		get k2
		get nosuch
		mget a nosuch b
		strlen nosuch
		getrange nosuch 0 1
		substr nosuch 0 1
		lcs nosuch a`,
	"bitmaps": `
		setbit b 3 1
		setbit b 3 1
		setbit b 3 0
		setbit b 100 0
		getbit nosuch 1
		bitcount nosuch
		bitpos nosuch 1
		bitop or d b
		bitop or d b nosuch
		bitop and d nosuch
		bitop and d nosuch
		bitop not d b
		bitfield b set u8 0 255
		bitfield b set u8 0 255
		bitfield b get u8 0
		bitfield nosuch get u8 0
		bitfield b2 set u8 0 0
		bitfield b incrby u8 0 1 get u8 0 incrby u8 8 1
		bitfield b overflow fail incrby u2 0 9
		bitfield_ro nosuch get u8 0`,
	"keys": `
		mset a 1 b 2 c 3
		del a nosuch b
		unlink c nosuch
		mset a 1 b 2
		exists a nosuch
		touch a nosuch
		type nosuch
		type a
		ttl nosuch
		pttl nosuch
		expiretime nosuch
		object encoding nosuch
		object freq nosuch
		memory usage nosuch
		dump nosuch
		randomkey
		expire a 100
		expire a 100 nx
		pexpire a 100000
		expireat a 99999999999
		pexpireat a 99999999999999
		expire nosuch 100
		persist a
		persist a
		expire a -1
		pexpireat b 1
		set a v
		rename a b
		set a v
		rename a b
		renamenx b c
		set b v
		renamenx b c
		rename b b
		rename nosuch x
		move b 1
		set b v
		move b 1
		move nosuch 1
		copy b c
		copy b c replace
		copy b d db 2
		copy b e
		copy nosuch e
		rpush l 3 1 2
		sort l
		sort l store sorted
		sort l store sorted
		sort nosuch store sorted
		sort nosuch store sorted
		sort l by w_* store b
		sort l by w_* get v_*
		sort_ro nosuch
		restore r 0 "\x00\x01v\n\x00\x91\b\xce\xb2\x198\x8a\xce"
		restore r 0 "\x00\x01v\n\x00\x91\b\xce\xb2\x198\x8a\xce" replace
		restore r 1 "\x00\x01v\n\x00\x91\b\xce\xb2\x198\x8a\xce" replace absttl
		keys *
		scan 0 count 100
		select 1
		set a v
		del b
		swapdb 0 1
		flushdb
		select 0
		flushall`,
	"hashes": `
		hset h a 1 b 2
		hset h a 1
		hmset h c 3
		hmset h2 c 3
		hsetnx h a 1
		hsetnx h d 1
		hsetnx h3 d 1
		hincrby h n 1
		hincrby h4 n 1
		hincrbyfloat h n 1.5
		hincrbyfloat h5 n 1.5
		hget h a
		hget nosuch a
		hmget nosuch a b
		hgetall nosuch
		hlen nosuch
		hstrlen nosuch a
		hexists nosuch a
		hrandfield nosuch
		hscan nosuch 0
		hkeys nosuch
		hvals nosuch
		hdel h nosuch
		hdel h a b
		hdel h c d n
		hdel h c`,
	"lists": `
		rpush l a b c
		lpush l z
		lpush l2 z y
		lpushx l q
		rpushx nosuch q
		rpushx l q
		lset l 0 x
		linsert l before x y
		linsert l before nosuch y
		lrem l 0 nosuch
		lrem l 0 x
		ltrim l 0 100
		ltrim l 0 1
		ltrim l 5 9
		rpush l a b c
		lrem l 0 a
		lpop l
		rpop l
		rpop l
		lpop nosuch 3
		rpush l a b c
		lpop l 0
		lpop l 2
		rpop l 5
		rpush l a b
		lmove l m left right
		lmove l m right left
		lmove nosuch m right left
		lmove m m left right
		rpoplpush m n
		rpoplpush m m
		rpoplpush m n
		lmpop 2 nosuch n left count 5
		lrange nosuch 0 -1
		llen nosuch
		lindex nosuch 0
		lpos nosuch a
		@2 blpop l 0
		rpush l a
		@2 blpop l 0
		rpush l a b
		del l
		@2 brpop nosuch l 0
		lpush l a b c
		del l
		@2 blmove l m left right 0
		lpush l a
		@2 brpoplpush l m 0
		lpush l a b
		@2 blmpop 0 1 x left count 2
		rpush x a b c
		del x
		@2 blmpop 0 1 x left count 5
		rpush x a b c
		blpop l 0
		brpop m 0
		blmove m l left left 0`,
	"sets": `
		sadd s a b
		sadd s a
		sadd s c
		srem s nosuch
		srem s a
		srem s b c
		sadd s a b c
		smove s t a
		smove s t nosuch
		smove nosuch t a
		sadd t b
		smove s t b
		smove s s c
		smove s t c
		spop t
		spop t 0
		spop t 1
		spop t 9
		spop t
		sadd a 1 2 3
		sadd b 2 3 4
		sinterstore d a b
		sinterstore d a b
		sinterstore d a nosuch
		sinterstore d a nosuch
		sunionstore d a b
		sdiffstore d a b
		sdiffstore d a a
		sdiffstore d nosuch a
		sinter a nosuch
		sunion nosuch a
		sdiff nosuch a
		sintercard 2 a nosuch
		smembers nosuch
		scard nosuch
		sismember nosuch a
		smismember nosuch a
		srandmember nosuch
		sscan nosuch 0`,
	"zsets": `
		zadd z 1 a 2 b
		zadd z 1 a
		zadd z 3 a
		zadd z xx 3 nosuch
		zadd nosuch xx 3 a
		zadd z ch gt 1 a
		zadd z incr 1 a
		zadd z2 incr 1 a
		zincrby z 1 a
		zincrby z 0 a
		zincrby z3 1 a
		zrem z nosuch
		zrem z a
		zrem z b
		zadd z 1 a 2 b 3 c 4 d 5 e 6 f
		zremrangebyrank z 0 0
		zremrangebyrank z 99 100
		zremrangebyscore z 2 2
		zremrangebylex z - (a
		zremrangebyscore z 3 9
		zadd z 0 a 0 b 0 c
		zremrangebylex z [a [b
		zpopmin z
		zpopmin z
		zadd z 1 a 2 b 3 c
		zpopmax z 0
		zpopmax z 2
		zpopmin z 9
		zadd z 1 a 2 b 3 c
		zmpop 2 nosuch z min
		zmpop 1 z max count 9
		zadd a 1 x 2 y
		zadd b 2 y 3 z
		zunionstore d 2 a b
		zinterstore d 2 a b
		zinterstore d 2 a nosuch
		zinterstore d 2 a nosuch
		zdiffstore d 2 a b
		zdiffstore d 2 a a
		zrangestore d a 0 -1
		zrangestore d nosuch 0 -1
		zrangestore d nosuch 0 -1
		zunion 2 a nosuch
		zinter 2 nosuch a
		zdiff 2 nosuch a
		zintercard 2 nosuch a
		zrange nosuch 0 -1
		zrangebyscore nosuch 0 1
		zscore nosuch a
		zmscore nosuch a
		zcard nosuch
		zcount nosuch 0 1
		zlexcount nosuch - +
		zrank nosuch a
		zrandmember nosuch
		zscan nosuch 0
		@2 bzpopmin q 0
		zadd q 1 a
		@2 bzpopmax q 0
		zadd q 1 a 2 b
		del q
		@2 bzmpop 0 1 q min count 3
		zadd q 1 a 2 b 3 c 4 d
		bzpopmin q 0`,
	"transactions": `
		multi
		set a v
		lpush l a b
		get nosuch
		del a l
		exec
		multi
		set a v
		discard
		watch a
		multi
		incr a
		exec`,
	"expiry": `
		debug set-active-expire 0
		set k v pxat 1
		get k
		rpush l a
		pexpireat l 1
		set k v pxat 1
		set k w
		set k v pxat 1
		exists k
		set k v pxat 1
		del k
		set a v
		set k v pxat 1
		rename a k
		set k v pxat 1
		set a v
		copy a k
		set k v pxat 1
		move k 1
		set k v pxat 1
		append k x
		del k
		set k v pxat 1
		lpush k a
		del k
		set k v pxat 1
		getdel k
		set k v pxat 1
		persist k
		set k v pxat 1
		sinterstore k nosuch nosuch2
		set k v pxat 1
		bitop and k nosuch
		set k v pxat 1
		bitop or k a
		set k v pxat 1
		sort nosuch store k
		del k
		rpush l 1
		set k v pxat 1
		sort l store k
		sadd s 1
		del k
		set k v pxat 1
		sunionstore k s
		del k
		set k v pxat 1
		zunionstore k 1 s
		del k
		set k v pxat 1
		zdiffstore k 2 s s
		set k v pxat 1
		zrangestore k nosuch 0 -1
		set k v pxat 1
		restore k 0 "\x00\x01v\n\x00\x91\b\xce\xb2\x198\x8a\xce"
		set k v pxat 1
		restore k 0 "\x00\x01v\n\x00\x91\b\xce\xb2\x198\x8a\xce" replace
		set k v pxat 1
		restore k 1 "\x00\x01v\n\x00\x91\b\xce\xb2\x198\x8a\xce" replace absttl
		set k v pxat 1
		object encoding k
		set k v pxat 1
		@2 blpop k 0
		rpush k a
		debug set-active-expire 1`,
}

// eventsOf runs a script at a server and returns what each of its lines tells of keys at others, which follow it, or at itself.
func eventsOf(t *testing.T, addr, events, script string, at ...string) [][]string {
	c, blocked, end := dial(t, addr), dial(t, addr), dial(t, addr)
	subs, told := make([]*wire, len(at)), make([][]string, len(at))
	require.Equal(t, "+OK\r\n", c.do("FLUSHALL"))
	for i := range at {
		require.Equal(t, "+OK\r\n", dial(t, at[i]).do("CONFIG", "SET", "notify-keyspace-events", events))
		subs[i] = dial(t, at[i])
		subs[i].do("SUBSCRIBE", "end")
		subs[i].do("PSUBSCRIBE", "__key*")
	}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "@2 "); ok {
			args, _ := splitWords(rest)
			blocked.send(args...)
			blockedClients(t, addr, 1)
		} else {
			c.line(line)
		}
		end.do("PUBLISH", "end", "")
		for i, sub := range subs {
			var seen []string
			for {
				m, _ := parseReply(t, sub.read())
				if m.items[0].text == "message" {
					break
				}
				seen = append(seen, m.items[2].text+" "+m.items[3].text)
			}
			told[i] = append(told[i], fmt.Sprintf("%s => %s", line, strings.Join(seen, ", ")))
		}
	}
	for i := range at {
		require.Equal(t, "+OK\r\n", dial(t, at[i]).do("CONFIG", "SET", "notify-keyspace-events", ""))
	}
	return told
}

// sameEvents compares what two servers have told.
func sameEvents(t *testing.T, want, got []string) {
	require.Len(t, got, len(want))
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("redis:    %s\nholdfast: %s", want[i], got[i])
		}
	}
}

// blockedClients returns once so many clients are blocked.
func blockedClients(t *testing.T, addr string, n int) {
	c := dial(t, addr)
	for !strings.Contains(c.do("INFO", "clients"), fmt.Sprintf("blocked_clients:%d\r\n", n)) {
		continue // each turn is a round trip
	}
}

// What commands tell of keys, in which order and to which channels, is what redis-server tells.
func TestEventsLikeRedis(t *testing.T) {
	redis, ours := oracle(t), holdfast(t).Addr()
	for _, events := range []string{"KEAnm", "Egn", "K$lshz", "Emx", "A"} {
		for family, script := range eventScripts {
			t.Run(family+"/events="+events, func(t *testing.T) {
				sameEvents(t, eventsOf(t, redis, events, script, redis)[0], eventsOf(t, ours, events, script, ours)[0])
			})
		}
	}
}

// A replica of ours tells of keys what a redis-server that follows the same primary tells: what the stream does to them.
func TestReplicaEventsLikeRedis(t *testing.T) {
	primary := newPeer(t, holdfast(t).Addr())
	theirs, ours := redisPeer(t), newPeer(t, holdfast(t).Addr())
	theirs.follow(primary)
	ours.follow(primary)
	require.Equal(t, ":2\r\n", primary.do("WAIT", "2", "0"))
	for family, script := range eventScripts {
		t.Run(family, func(t *testing.T) {
			told := eventsOf(t, primary.addr, "KEAnm", script, theirs.addr, ours.addr)
			sameEvents(t, told[0], told[1])
		})
	}
	same(t, primary, theirs, ours)
}

// Keys that nobody asks for are told of when their time has come.
func TestExpiredEvent(t *testing.T) {
	addr := holdfast(t, "--notify-keyspace-events", "Ex").Addr()
	sub, c := dial(t, addr), dial(t, addr)
	sub.do("SUBSCRIBE", "__keyevent@3__:expired")
	c.do("SELECT", "3")
	c.do("SET", "k", "v", "PX", "1")
	require.Equal(t, resp(2, "message", "__keyevent@3__:expired", "k"), sub.read())
}

// Each key that a policy deletes is told of.
func TestEvictedEvents(t *testing.T) {
	addr := holdfast(t, "--notify-keyspace-events", "Ee", "--maxmemory-policy", "allkeys-random", "--maxmemory", "1mb",
		"--appendfsync", "no").Addr()
	sub, c := dial(t, addr), dial(t, addr)
	sub.do("SUBSCRIBE", "__keyevent@0__:evicted", "end")
	sub.read()
	value := strings.Repeat("x", 10_000)
	for i := range 300 {
		require.Equal(t, "+OK\r\n", c.do("SET", fmt.Sprint("key:", i), value))
	}
	c.do("PUBLISH", "end", "")
	gone := map[string]bool{}
	for {
		m, _ := parseReply(t, sub.read())
		if m.items[1].text == "end" {
			break
		}
		gone[m.items[2].text] = true
	}
	require.NotEmpty(t, gone)
	for i := range 300 {
		key := fmt.Sprint("key:", i)
		require.Equal(t, !gone[key], c.do("EXISTS", key) == ":1\r\n", key)
	}
}

// The letters of notify-keyspace-events are shown as redis-server shows them.
func TestEventLettersLikeRedis(t *testing.T) {
	a, b := dial(t, oracle(t)), dial(t, holdfast(t).Addr())
	for _, letters := range []string{"", "K", "x", "KEA", "AKE", "Kg$lshzxetdnm", "KEn", "mKE", "nmA", "KEg$lshzxetd", "KQ", "K E", "a"} {
		set := []string{"CONFIG", "SET", "notify-keyspace-events", letters}
		require.Equal(t, a.do(set...), b.do(set...), letters)
		get := []string{"CONFIG", "GET", "notify-keyspace-events"}
		require.Equal(t, a.do(get...), b.do(get...), letters)
	}
}

// What commands on the expiry of fields tell, as Redis 7.4 and 8 do; the redis-server here has none of them.
const fieldEventScript = `
	hset h a 1 b 2 c 3 => __keyspace@0__:h hset, __keyevent@0__:hset h
	hexpire h 100 fields 2 a nosuch => __keyspace@0__:h hexpire, __keyevent@0__:hexpire h
	hpexpire h 100000 nx fields 1 a =>
	hexpireat h 9999999999 fields 1 a => __keyspace@0__:h hexpire, __keyevent@0__:hexpire h
	hpersist h fields 1 a => __keyspace@0__:h hpersist, __keyevent@0__:hpersist h
	hpersist h fields 1 a =>
	hgetex h ex 100 fields 1 a => __keyspace@0__:h hexpire, __keyevent@0__:hexpire h
	hgetex h persist fields 1 a => __keyspace@0__:h hpersist, __keyevent@0__:hpersist h
	hgetex h fields 1 a =>
	hsetex h px 100000 fields 1 d 4 => __keyspace@0__:h hset, __keyevent@0__:hset h, __keyspace@0__:h hexpire, __keyevent@0__:hexpire h
	hsetex h fnx fields 1 d 4 =>
	hgetdel h fields 2 a b => __keyspace@0__:h hdel, __keyevent@0__:hdel h
	hpexpireat h 1 fields 1 c => __keyspace@0__:h hdel, __keyevent@0__:hdel h
	hgetdel h fields 1 d => __keyspace@0__:h hdel, __keyevent@0__:hdel h, __keyspace@0__:h del, __keyevent@0__:del h`

func TestEventsOfFields(t *testing.T) {
	var script strings.Builder
	var want []string
	for line := range strings.Lines(fieldEventScript) {
		if line = strings.TrimSpace(line); line != "" {
			command, _, _ := strings.Cut(line, " =>")
			fmt.Fprintln(&script, command)
			want = append(want, line)
		}
	}
	ours := holdfast(t).Addr()
	told := eventsOf(t, ours, "KEA", script.String(), ours)[0]
	for i := range told {
		told[i] = strings.TrimSpace(told[i])
	}
	require.Equal(t, want, told)
}

// Every command of the table that writes has a script.
func TestEventScriptsCoverTheTable(t *testing.T) {
	all := strings.Fields(fieldEventScript)
	for _, script := range eventScripts {
		for line := range strings.Lines(script) {
			if f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "@2 ")); len(f) > 0 {
				all = append(all, f[0])
			}
		}
	}
	s := holdfast(t)
	for _, spec := range s.table.All() {
		if spec.Write() && spec.Name != "restore-asking" && !slices.Contains(all, spec.Name) {
			t.Errorf("no script has %s", spec.Name)
		}
	}
}
