package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// peer is a server in a test of replication: ours, or a redis-server.
type peer struct {
	t    testing.TB
	addr string
	*wire
}

func newPeer(t testing.TB, addr string) *peer { return &peer{t, addr, dial(t, addr)} }

func (n *peer) port() string {
	_, port, err := net.SplitHostPort(n.addr)
	require.NoError(n.t, err)
	return port
}

// info returns a field of INFO, "" if there is none.
func (n *peer) info(field string) string {
	for line := range strings.SplitSeq(n.do("INFO", "all"), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return value
		}
	}
	return ""
}

// awaitInfo waits until a field of INFO has a value.
func (n *peer) awaitInfo(field, value string) {
	n.t.Helper()
	have := ""
	link := ""
	if !assert.Eventually(n.t, func() bool { have, link = n.info(field), n.info("master_link_error"); return have == value },
		30*time.Second, 5*time.Millisecond) {
		n.t.Fatalf("%s: %s is %s and should be %s; link: %s", n.addr, field, have, value, link)
	}
}

// follow makes n a replica of p and waits until the link is up.
func (n *peer) follow(p *peer) {
	n.t.Helper()
	require.Equal(n.t, "+OK\r\n", n.do("REPLICAOF", "127.0.0.1", p.port()))
	n.awaitInfo("master_link_status", "up")
}

// same waits until all peers stand at one offset with equal data. Nobody writes meanwhile, but keys still expire.
func same(t testing.TB, peers ...*peer) {
	t.Helper()
	state := func() []string {
		var seen []string
		for _, n := range peers {
			seen = append(seen, n.info("master_repl_offset")+" "+n.do("DEBUG", "DIGEST")+n.info("master_repl_offset"))
		}
		return seen
	}
	deadline, tick := time.Now().Add(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for seen := state(); slices.ContainsFunc(seen, func(s string) bool { return s != seen[0] }); seen = state() {
		if time.Now().After(deadline) {
			for i, n := range peers {
				t.Logf("%s: %s\n%s", n.addr, seen[i], n.do("INFO", "replication"))
			}
			require.FailNow(t, "data or offsets differ")
		}
		<-tick.C
	}
}

// fill writes values of every type that we have, small and big, with and without an expiry, to several databases, and a transaction.
func fill(n *peer, seed string) {
	sent := 0
	ok := func(args ...string) { // replies are read together, in pieces
		n.send(args...)
		if sent++; sent < 100 && args[0] != "SELECT" {
			return
		}
		for ; sent > 0; sent-- {
			require.NotContains(n.t, n.read()[:1], "-")
		}
	}
	for _, db := range []string{"0", "3"} {
		ok("SELECT", db)
		for i := range 50 {
			id := seed + strconv.Itoa(i)
			ok("SET", "string:"+id, strings.Repeat(id, i))
			ok("HSET", "hash:"+id, "f", id, "g", "1")
			ok("RPUSH", "list:"+id, id, "2", "three")
			ok("SADD", "set:"+id, "1", "2", strconv.Itoa(i))
			ok("SADD", "words:"+id, "a", "b", id)
			ok("ZADD", "zset:"+id, "1.5", "a", "-inf", id)
		}
		for i := range 700 {
			v := strconv.Itoa(i)
			ok("HSET", "bighash:"+seed, "field"+v, v)
			ok("RPUSH", "biglist:"+seed, strings.Repeat(v, 20))
			ok("SADD", "bigset:"+seed, "member"+v)
			ok("SADD", "bigints:"+seed, v)
			ok("ZADD", "bigzset:"+seed, v+".25", "member"+v)
		}
		ok("SET", "int:"+seed, "123456789")
		ok("SET", "lives:"+seed, "x", "EX", "100000")
		ok("EXPIRE", "hash:"+seed+"1", "90000")
		ok("MULTI")
		ok("INCR", "int:"+seed)
		ok("LPUSH", "biglist:"+seed, "front")
		ok("DEL", "string:"+seed+"7")
		ok("EXEC")
	}
	ok("SELECT", "0")
}

func TestReplicationSession(t *testing.T) {
	p, r := newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr())
	fill(p, "a")
	r.follow(p)
	same(t, p, r)
	require.Equal(t, "1", p.info("sync_full"))
	require.Equal(t, "1", p.info("connected_slaves"))
	require.Contains(t, p.info("slave0"), "ip=127.0.0.1,port="+r.port()+",state=online")
	require.Equal(t, "slave", r.info("role"))
	require.Equal(t, p.info("master_replid"), r.info("master_replid"))

	fill(p, "b")
	require.Equal(t, ":1\r\n", p.do("WAIT", "1", "0"))
	require.Equal(t, "*2\r\n:1\r\n:1\r\n", p.do("WAITAOF", "1", "1", "0"))
	same(t, p, r)
	require.Equal(t, "-READONLY You can't write against a read only replica.\r\n", r.do("SET", "a", "b"))
	require.Contains(t, r.do("WAIT", "1", "0"), "-ERR WAIT cannot be used with replica instances")
	require.Contains(t, r.do("ROLE"), "slave")
	require.Contains(t, r.do("ROLE"), "connected")

	// Cut from the primary's side: the replica resumes.
	require.Equal(t, ":1\r\n", p.do("CLIENT", "KILL", "TYPE", "replica"))
	require.Equal(t, "+OK\r\n", p.do("SET", "after", "the cut"))
	p.awaitInfo("sync_partial_ok", "1")
	same(t, p, r)
	require.Equal(t, "1", p.info("sync_full"))
}

// A chain of three, whose middle is promoted: the end of the chain and the old primary go on without a full sync.
func TestReplicationChainAndPromotion(t *testing.T) {
	a, b, c := newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr())
	fill(a, "x")
	b.follow(a)
	c.follow(b)
	fill(a, "y")
	same(t, a, b, c)
	require.Equal(t, "1", b.info("sync_full"))

	require.Equal(t, "+OK\r\n", b.do("REPLICAOF", "NO", "ONE"))
	require.Equal(t, "+OK\r\n", b.do("REPLICAOF", "NO", "ONE"), "it is one already")
	require.Equal(t, "master", b.info("role"))
	fill(b, "z")
	a.follow(b)
	same(t, b, a, c)
	require.Equal(t, "1", b.info("sync_full"), "the one of the beginning")
	require.Equal(t, b.info("master_replid"), a.info("master_replid"))
	require.Equal(t, b.info("master_replid"), c.info("master_replid"))
	require.Contains(t, a.do("REPLICAOF", "127.0.0.1", b.port()), "Already connected")
}

func TestFailoverCommand(t *testing.T) {
	a, b, c := newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr())
	require.Equal(t, "-ERR FAILOVER requires connected replicas.\r\n", a.do("FAILOVER"))
	require.Equal(t, "-ERR No failover in progress.\r\n", a.do("FAILOVER", "ABORT"))
	require.Equal(t, "-ERR FAILOVER timeout must be greater than 0\r\n", a.do("FAILOVER", "TIMEOUT", "0"))
	b.follow(a)
	c.follow(a)
	require.Equal(t, "-ERR FAILOVER is not valid when server is a replica.\r\n", b.do("FAILOVER"))
	require.Equal(t, "-ERR FAILOVER target HOST and PORT is not a replica.\r\n", a.do("FAILOVER", "TO", "127.0.0.1", "1"))
	require.Equal(t, "-ERR FAILOVER with force option requires both a timeout and target HOST and IP.\r\n", a.do("FAILOVER", "FORCE"))

	stop := make(chan struct{})
	var clients sync.WaitGroup
	written := make([]int, 4)
	for i := range written {
		w := dial(t, a.addr)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if reply := w.do("INCR", fmt.Sprint("counter", i)); strings.HasPrefix(reply, "-READONLY") {
					return
				} else if strings.HasPrefix(reply, ":") {
					written[i]++
				}
			}
		})
	}
	require.Equal(t, "+OK\r\n", a.do("FAILOVER", "TO", "127.0.0.1", b.port()))
	b.awaitInfo("role", "master")
	a.awaitInfo("master_failover_state", "no-failover")
	a.awaitInfo("master_link_status", "up")
	close(stop)
	clients.Wait()
	for i, n := range written {
		if n > 0 {
			require.Equal(t, fmt.Sprintf("$%d\r\n%d\r\n", len(strconv.Itoa(n)), n), b.do("GET", fmt.Sprint("counter", i)), "no write is lost, none is made twice")
		}
	}
	require.Equal(t, "slave", a.info("role"))
	require.Equal(t, "0", b.info("sync_full"))
	require.Equal(t, "+OK\r\n", b.do("SET", "k", "v"))
	c.awaitInfo("master_link_status", "up") // still behind a
	same(t, b, a, c)
	require.Equal(t, "2", a.info("sync_full"), "the two of the beginning")
}

// The role survives an end without warning, and CONFIG REWRITE is not needed for it; a changed configuration counts.
func TestRoleSurvives(t *testing.T) {
	p := newPeer(t, holdfast(t).Addr())
	require.Equal(t, "+OK\r\n", p.do("SET", "a", "1"))
	dir := t.TempDir()
	start := func(flags ...string) (*Server, *peer) {
		cfg := NewConfig()
		require.NoError(t, cfg.LoadFlags(append([]string{"--bind", "127.0.0.1", "--dir", dir, "--enable-debug-command", "yes"}, flags...)))
		s, err := Start(context.Background(), Options{Config: cfg, AnyPort: true})
		require.NoError(t, err)
		return s, newPeer(t, s.Addr())
	}
	stop := func(s *Server) { require.NoError(t, s.close(context.Background(), false)) }

	s, r := start()
	r.follow(p)
	same(t, p, r)
	stop(s)
	require.Equal(t, "+OK\r\n", p.do("SET", "a", "2"))
	s, r = start()
	require.Equal(t, "slave", r.info("role"))
	require.Contains(t, r.do("CONFIG", "GET", "replicaof"), "127.0.0.1 "+p.port())
	r.awaitInfo("master_link_status", "up")
	same(t, p, r)
	require.Equal(t, "1", p.info("sync_full"))
	require.Equal(t, "1", p.info("sync_partial_ok"))
	stop(s)
	s, r = start("--replicaof", "127.0.0.1", "1")
	require.Equal(t, "1", r.info("master_port"), "the configuration says something else now")
	require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "NO", "ONE"))
	stop(s)
	s, r = start("--replicaof", "127.0.0.1", "1")
	require.Equal(t, "master", r.info("role"), "the configuration is what it was when the role changed")
	stop(s)
}

func TestMinReplicas(t *testing.T) {
	p, r := newPeer(t, holdfast(t, "--min-replicas-to-write", "1", "--appendfsync", "everysec").Addr()), newPeer(t, holdfast(t).Addr())
	require.Equal(t, "-NOREPLICAS Not enough good replicas to write.\r\n", p.do("SET", "a", "1"))
	require.Equal(t, "$-1\r\n", p.do("GET", "a"))
	require.Equal(t, "+OK\r\n", p.do("MULTI"))
	require.Equal(t, "-NOREPLICAS Not enough good replicas to write.\r\n", p.do("SET", "a", "1"))
	require.Contains(t, p.do("EXEC"), "-EXECABORT")
	r.follow(p)
	require.Eventually(t, func() bool { return p.do("SET", "a", "1") == "+OK\r\n" }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, "1", p.info("min_slaves_good_slaves"))

	// min-replicas-durable holds replies back until a replica has the write on disk.
	require.Equal(t, "+OK\r\n", p.do("CONFIG", "SET", "min-replicas-durable", "1"))
	require.Equal(t, "+OK\r\n", p.do("SET", "a", "2"))
	require.Equal(t, ":1\r\n", p.do("EXISTS", "a"))
	require.Equal(t, "+OK\r\n", p.do("CONFIG", "SET", "min-replicas-durable", "2"))
	w := dial(t, p.addr)
	w.send("SET", "a", "3")
	other := newPeer(t, holdfast(t).Addr())
	other.follow(p)
	require.Equal(t, "+OK\r\n", w.read())
	same(t, p, r, other)
}

// Who waits for replicas does not wait for the log to gather: WAIT while it lasts, min-replicas-durable as long as it is set.
func TestWhoWaitsForReplicasHurriesTheLog(t *testing.T) {
	s := holdfast(t, "--appendfsync", "everysec")
	hurried := s.eng.Log().Hurried
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	id := strings.Trim(a.do("CLIENT", "ID"), ":\r\n")
	require.False(t, hurried())
	a.send("WAIT", "1", "0")
	until(t, "it waits", hurried)
	until(t, "it can be unblocked", func() bool { return b.do("CLIENT", "UNBLOCK", id) == ":1\r\n" })
	require.Equal(t, ":0\r\n", a.read())
	require.False(t, hurried())
	for range 2 {
		require.Equal(t, "+OK\r\n", b.do("CONFIG", "SET", "min-replicas-durable", "1"))
		require.True(t, hurried())
	}
	require.Equal(t, "+OK\r\n", b.do("CONFIG", "SET", "min-replicas-durable", "0"))
	require.False(t, hurried())
}

// A primary that comes back empty does not take a replica's data.
func TestEmptyPrimaryIsRefused(t *testing.T) {
	empty, r := newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr())
	fill(r, "mine")
	require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "127.0.0.1", empty.port()))
	require.Eventually(t, func() bool { return strings.Contains(r.info("master_link_error"), "replica-accept-empty-primary") },
		20*time.Second, 5*time.Millisecond)
	require.Equal(t, "$9\r\n123456790\r\n", r.do("GET", "int:mine"))
	require.Equal(t, "+OK\r\n", r.do("CONFIG", "SET", "replica-accept-empty-primary", "yes"))
	r.awaitInfo("master_link_status", "up")
	require.Equal(t, "$-1\r\n", r.do("GET", "int:mine"))
	same(t, empty, r)
}

func TestStaleReplica(t *testing.T) {
	r := newPeer(t, holdfast(t, "--replica-serve-stale-data", "no", "--replicaof", "127.0.0.1", "1").Addr())
	require.Equal(t, "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n", r.do("GET", "a"))
	require.Equal(t, "slave", r.info("role"))
	require.Equal(t, "+OK\r\n", r.do("CONFIG", "SET", "replica-serve-stale-data", "yes"))
	require.Equal(t, "$-1\r\n", r.do("GET", "a"))
	require.Contains(t, r.do("CONFIG", "SET", "replica-read-only", "no"), "not supported")
}

// A proxy whose connections can be cut.
type cutter struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newCutter(t testing.TB, to string) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &cutter{ln: ln, to: to}
	p.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", p.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				p.wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1]) // ends with the connection
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *cutter) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
