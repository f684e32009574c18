package server

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var lookupFields = regexp.MustCompile(`keyspace_(?:hits|misses):\d+`)

// INFO counts as hits and misses the same look-ups as redis-server, command by command, and CONFIG RESETSTAT forgets them.
func TestLookupsCountedAsRedis(t *testing.T) {
	theirs, ours := dial(t, oracle(t)), dial(t, holdfast(t).Addr())
	figures := func(w *wire) string { return strings.Join(lookupFields.FindAllString(w.do("INFO", "stats"), -1), " ") }
	queued := false
	for _, line := range strings.Split(strings.TrimSpace(`
		set a 1
		get a
		get none
		mget a none none2
		exists a none
		type a
		ttl none
		pexpiretime a
		object encoding a
		object freq none
		touch a none
		incr a
		append a 1
		setrange a 0 1
		strlen a
		getrange none 0 1
		getset a 5
		getdel a
		getdel a
		set a 1 get
		set a 1 nx get
		set a 2 xx
		setnx a 1
		getex a
		getex none ex 10
		copy a c
		copy none c
		sadd s1 a b
		zadd z1 1 a
		sinterstore sd s1 none
		sunionstore sd s1 none
		sdiffstore sd none s1
		zunionstore zd 2 z1 none
		zinterstore zd 2 z1 none
		zdiffstore zd 2 none z1
		zrangestore zd none 0 -1
		zrangestore zd z1 0 -1
		bitop and d a c none
		bitcount a
		bitpos none 1
		bitfield a get u8 0
		bitfield a set u8 0 1
		bitfield_ro none get u8 0
		setbit a 1 1
		getbit a 1
		lcs a none
		rpush l 3 1 2
		sort l
		sort l by w* get # get a
		sort l store m
		sort none store m
		sort_ro l
		dump a
		dump none
		restore r 0 x
		randomkey
		memory usage a
		keys *
		scan 0
		expire a 100
		persist a
		rename a b
		renamenx none b
		move b 1
		del l
		lrange l 0 -1
		lpop none
		lpos m x
		hget h f
		hset h f v
		hgetall h
		hincrby h n 1
		hscan h 0
		sadd s 1 2
		sismember s 1
		sinter s none
		sintercard 2 s s
		zadd z 1 a
		zscore z a
		zunion 2 z none
		zrank z a
		zpopmin z
		set e v pxat 1
		get e
		multi
		get r
		get c
		exec`), "\n") {
		line = strings.TrimSpace(line)
		theirs.line(line)
		ours.line(line)
		if queued = line == "multi" || queued && line != "exec"; queued {
			continue // INFO would be queued as well
		}
		require.Equal(t, figures(theirs), figures(ours), line)
	}
	require.Equal(t, "+OK\r\n", ours.do("CONFIG", "RESETSTAT"))
	require.Equal(t, "keyspace_hits:0 keyspace_misses:0", figures(ours))
}
