package server

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What clients of a primary and of a replica see of the roles, beside redis-server.

// rolePair is a primary and its replica, of one kind.
type rolePair struct{ p, r *peer }

// eachPair runs a test with redis-servers and with ours, and wants the same from both.
func eachPair(t *testing.T, run func(t *testing.T, n rolePair) []string) {
	redis := rolePair{redisPeer(t), redisPeer(t)}
	ours := rolePair{newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr())}
	redis.r.follow(redis.p)
	ours.r.follow(ours.p)
	require.Equal(t, run(t, redis), run(t, ours))
}

// REPLCONF and PSYNC take and refuse the same.
func TestReplconfLikeRedis(t *testing.T) {
	eachPair(t, func(t *testing.T, n rolePair) (out []string) {
		require.Eventually(t, func() bool { return n.p.do("WAIT", "1", "100") == ":1\r\n" }, 20*time.Second, 5*time.Millisecond)
		for _, line := range []string{
			"PSYNC ?", "PSYNC ? x", "PSYNC ? x y z", "PSYNC x 1 failover", "SYNC x",
			"REPLCONF rdb-only 0", "REPLCONF rdb-only 1", "REPLCONF rdb-only 2", "REPLCONF rdb-only -1", "REPLCONF rdb-only x",
			"REPLCONF rdb-filter-only functions", "REPLCONF rdb-filter-only FUNCTIONS", "REPLCONF rdb-filter-only keys", `REPLCONF rdb-filter-only ""`,
			"REPLCONF", "REPLCONF capa", "REPLCONF capa nonsense", "REPLCONF listening-port x", "REPLCONF nonsense 1",
			"WAIT x 0", "WAIT 0 x", "WAIT 0 -1", "WAIT 0 99999999999999999999", "WAIT 1 9223372036854775807",
		} {
			out = append(out, line+": "+n.p.line(line))
		}
		return out
	})
}

// With replica-serve-stale-data no a write is still refused as a write, and EXEC as what it would run.
func TestStaleLikeRedis(t *testing.T) {
	eachPair(t, func(t *testing.T, n rolePair) (out []string) {
		reads, says, writes := dial(t, n.r.addr), dial(t, n.r.addr), dial(t, n.r.addr)
		out = append(out, reads.do("MULTI"), reads.do("GET", "a"), says.do("MULTI"), says.do("PUBLISH", "a", "b"))
		require.Equal(t, "+OK\r\n", n.r.do("REPLICAOF", "NO", "ONE"))
		out = append(out, writes.do("MULTI"), writes.do("SET", "a", "1"))
		require.Equal(t, "+OK\r\n", n.r.do("CONFIG", "SET", "replica-serve-stale-data", "no"))
		require.Equal(t, "+OK\r\n", n.r.do("REPLICAOF", "127.0.0.1", "1"))
		for _, line := range []string{"GET a", "SET a 1", "PING", "SELECT 1", "PUBLISH a b", "MULTI", "PSYNC ? -1", "DISCARD", "MULTI", "GET a", "EXEC", "DISCARD",
			"MULTI", "SUBSCRIBE a", "GET a"} {
			out = append(out, line+": "+n.r.line(line))
		}
		return append(out, reads.do("EXEC"), reads.do("EXEC"), says.do("EXEC"), writes.do("EXEC"), writes.do("EXEC"))
	})
}

// Whoever waits when the primary becomes a replica is sent home.
func TestDemotionUnblocks(t *testing.T) {
	eachPair(t, func(t *testing.T, n rolePair) []string {
		require.Equal(t, "+OK\r\n", n.r.do("REPLICAOF", "NO", "ONE"))
		wait, pop := dial(t, n.r.addr), dial(t, n.r.addr)
		wait.send("WAIT", "5", "0")
		pop.send("BLPOP", "none", "0")
		require.Eventually(t, func() bool { return strings.Count(n.r.do("CLIENT", "LIST"), "flags=b ") == 2 }, 20*time.Second, 5*time.Millisecond)
		n.r.follow(n.p)
		return []string{wait.read(), pop.read()}
	})
}

var roleOfHello = regexp.MustCompile(`role\r\n\$\d+\r\n(\w+)`)

// HELLO names the role.
func TestHelloTellsTheRole(t *testing.T) {
	eachPair(t, func(t *testing.T, n rolePair) []string {
		out := []string{roleOfHello.FindString(n.p.do("HELLO")), roleOfHello.FindString(n.r.do("HELLO", "3"))}
		n.r.do("HELLO", "2")
		require.Equal(t, "+OK\r\n", n.r.do("REPLICAOF", "NO", "ONE"))
		return append(out, roleOfHello.FindString(n.r.do("HELLO")))
	})
}

// The link to the primary is a client of TYPE master, while it is up. Who kills it has it made again.
func TestLinkToPrimaryIsAClient(t *testing.T) {
	eachPair(t, func(t *testing.T, n rolePair) (out []string) {
		list := n.r.do("CLIENT", "LIST", "TYPE", "master")
		out = append(out, regexp.MustCompile(`flags=\S+`).FindString(list), regexp.MustCompile(`user=\S+`).FindString(list))
		require.Contains(t, list, " addr="+n.p.addr+" ")
		id := strings.TrimPrefix(regexp.MustCompile(`id=\d+`).FindString(list), "id=")
		require.Contains(t, n.r.do("CLIENT", "LIST"), "id="+id+" ")
		require.Contains(t, n.r.do("CLIENT", "LIST", "ID", id), "id="+id+" ")
		out = append(out, n.p.do("CLIENT", "LIST", "TYPE", "master"), n.r.do("CLIENT", "KILL", "TYPE", "replica"), n.r.do("CLIENT", "KILL", "TYPE", "master"))
		require.Eventually(t, func() bool { return n.p.info("sync_partial_ok") == "1" }, 20*time.Second, 5*time.Millisecond)
		n.r.awaitInfo("master_link_status", "up")
		require.Equal(t, 1, strings.Count(n.r.do("CLIENT", "LIST", "TYPE", "master"), "id="))
		out = append(out, n.r.do("CLIENT", "KILL", "ADDR", n.p.addr))
		require.Eventually(t, func() bool { return n.p.info("sync_partial_ok") == "2" }, 20*time.Second, 5*time.Millisecond)
		n.r.awaitInfo("master_link_status", "up")
		require.Equal(t, "+OK\r\n", n.r.do("REPLICAOF", "NO", "ONE"))
		return append(out, n.r.do("CLIENT", "LIST", "TYPE", "master"))
	})
}

// INFO has all of Redis's fields of replication and statistics, in its order, in both roles and while the link is down; what is
// more stands between them.
func TestInfoFieldsLikeRedis(t *testing.T) {
	var redis [][]string
	fields := func(n *peer, section string) (out []string) {
		for line := range strings.SplitSeq(n.do("INFO", section), "\r\n") {
			if name, _, ok := strings.Cut(line, ":"); ok {
				out = append(out, name)
			}
		}
		return out
	}
	look := func(n rolePair) (all [][]string) {
		for _, of := range []*peer{n.p, n.r} {
			all = append(all, fields(of, "replication"), fields(of, "stats"))
		}
		require.Equal(t, "+OK\r\n", n.p.do("CONFIG", "SET", "min-replicas-to-write", "1"))
		all = append(all, fields(n.p, "replication")) // before the replica leaves
		require.Equal(t, "+OK\r\n", n.r.do("REPLICAOF", "127.0.0.1", "1"))
		return append(all, fields(n.r, "replication"))
	}
	eachPair(t, func(t *testing.T, n rolePair) []string {
		have := look(n)
		if redis == nil {
			redis = have
			return nil
		}
		for i, want := range redis {
			at := 0
			for _, name := range have[i] {
				if at < len(want) && name == want[at] {
					at++
				}
			}
			require.Equal(t, len(want), at, "of %v the first that is missing or out of order is %s: %v", want, strings.Join(want[min(at, len(want)-1):][:1], ""), have[i])
		}
		return nil
	})
}

// The figures of INFO stats that only some servers have something to say about.
func TestStatisticsOfTheJanitor(t *testing.T) {
	srv := holdfast(t)
	c := newPeer(t, srv.Addr())
	require.Equal(t, "+OK\r\n", c.do("SET", "k", "v"))
	dump := c.do("DUMP", "k")
	_, payload, _ := strings.Cut(dump, "\r\n")
	payload = strings.TrimSuffix(payload, "\r\n")
	require.Equal(t, "+OK\r\n", c.do("RESTORE", "r", "0", payload))
	require.Contains(t, c.do("RESTORE", "r", "0", payload), "BUSYKEY")
	require.Equal(t, "1", c.info("dump_payload_sanitizations"))
	require.NotEqual(t, "0", c.info("total_reads_processed"))
	require.NotEqual(t, "0", c.info("total_writes_processed"))
	require.Equal(t, "0.00", c.info("expired_stale_perc"))
	for i := range 50 {
		c.do("SET", "dies"+strings.Repeat("x", i), "1", "PX", "1")
	}
	require.Eventually(t, func() bool { return c.info("expired_keys") == "50" }, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { return c.info("expired_stale_perc") != "0.00" }, 20*time.Second, 5*time.Millisecond)

	// More in memory than maxmemory allows, of what cannot leave it: it has no place on disk yet.
	require.Equal(t, "0", c.info("total_eviction_exceeded_time"))
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "maxmemory", "1"))
	require.Eventually(t, func() bool { return c.info("current_eviction_exceeded_time") != "0" }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "maxmemory", "0"))
	require.Eventually(t, func() bool { return c.info("current_eviction_exceeded_time") == "0" }, 20*time.Second, 5*time.Millisecond)
	require.NotEqual(t, "0", c.info("total_eviction_exceeded_time"))
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "RESETSTAT"))
	require.Equal(t, "0", c.info("total_eviction_exceeded_time"))
	require.Equal(t, "0", c.info("dump_payload_sanitizations"))
}
