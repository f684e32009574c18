package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Replication between redis-server and us, in both directions and in chains.

func redisPeer(t testing.TB, args ...string) *peer { return newPeer(t, oracle(t, args...)) }

func TestRedisFollowsUs(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("diskless="+diskless, func(t *testing.T) {
			r := redisPeer(t)
			p := newPeer(t, holdfast(t, "--repl-diskless-sync", diskless).Addr())
			fill(p, "a")
			r.follow(p)
			same(t, p, r)
			fill(p, "b")
			require.Equal(t, ":1\r\n", p.do("WAIT", "1", "0"))
			same(t, p, r)
			for range 3 {
				require.Equal(t, ":1\r\n", p.do("CLIENT", "KILL", "TYPE", "slave"))
				fill(p, "c")
				require.Eventually(t, func() bool { return p.info("connected_slaves") == "1" }, 20*time.Second, 5*time.Millisecond)
			}
			same(t, p, r)
			require.Equal(t, "1", p.info("sync_full"))
			require.Equal(t, "3", p.info("sync_partial_ok"))
		})
	}
}

func TestWeFollowRedis(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("diskless="+diskless, func(t *testing.T) {
			p := redisPeer(t, "--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0")
			r := newPeer(t, holdfast(t).Addr())
			fill(p, "a")
			r.follow(p)
			same(t, p, r)
			fill(p, "b")
			require.Equal(t, ":1\r\n", p.do("WAIT", "1", "0"))
			// A script's effects come as a transaction.
			require.Equal(t, ":3\r\n", p.do("EVAL", "redis.call('SET', KEYS[1], ARGV[1]); redis.call('LPUSH', KEYS[2], 1, 2, 3); return redis.call('LLEN', KEYS[2])",
				"2", "script:string", "script:list", "x"))
			require.Equal(t, "+OK\r\n", p.do("SWAPDB", "0", "3"))
			same(t, p, r)
			require.Equal(t, "1", p.info("sync_full"))
		})
	}
}

func TestWeResumeFromRedis(t *testing.T) {
	p := redisPeer(t, "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "10mb")
	via := newCutter(t, p.addr)
	r := newPeer(t, holdfast(t).Addr())
	fill(p, "a")
	_, port, _ := strings.Cut(via.ln.Addr().String(), ":")
	require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "127.0.0.1", port))
	r.awaitInfo("master_link_status", "up")
	for i := range 5 {
		via.cut()
		fill(p, strconv.Itoa(i))
		p.awaitInfo("sync_partial_ok", strconv.Itoa(i+1))
	}
	same(t, p, r)
	require.Equal(t, "1", p.info("sync_full"))
}

// redis → ours → redis, and ours → redis → ours.
func TestChains(t *testing.T) {
	quick := []string{"--repl-diskless-sync-delay", "0"}
	t.Run("redis, ours, redis", func(t *testing.T) {
		a, b, c := redisPeer(t, quick...), newPeer(t, holdfast(t).Addr()), redisPeer(t)
		fill(a, "a")
		b.follow(a)
		c.follow(b)
		fill(a, "b")
		same(t, a, b, c)
		// The middle is promoted: the redis-server at the end resumes under the new id.
		require.Equal(t, "+OK\r\n", b.do("REPLICAOF", "NO", "ONE"))
		fill(b, "c")
		c.awaitInfo("master_link_status", "up")
		same(t, b, c)
		require.Equal(t, "1", b.info("sync_full"))
		// And the old primary, a redis-server, becomes our replica by a partial resync.
		a.follow(b)
		same(t, b, a, c)
		require.Equal(t, "1", b.info("sync_full"))
	})
	t.Run("ours, redis, ours", func(t *testing.T) {
		a, b, c := newPeer(t, holdfast(t).Addr()), redisPeer(t, quick...), newPeer(t, holdfast(t).Addr())
		fill(a, "a")
		b.follow(a)
		c.follow(b)
		fill(a, "b")
		same(t, a, b, c)
		require.Equal(t, "+OK\r\n", b.do("REPLICAOF", "NO", "ONE"))
		a.follow(b)
		fill(b, "c")
		same(t, b, a, c)
		require.Equal(t, "1", a.info("sync_full"))
		require.Equal(t, "1", b.info("sync_full"), "only that of the chain's end")
	})
}

func TestRedisCliReplication(t *testing.T) {
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("redis-cli is not installed")
	}
	p := newPeer(t, holdfast(t).Addr())
	fill(p, "a")
	dir := t.TempDir()
	out, err := exec.Command(cli, "-p", p.port(), "--rdb", filepath.Join(dir, "dump.rdb")).CombinedOutput()
	require.NoError(t, err, string(out))
	loaded := redisPeer(t, "--dir", dir, "--dbfilename", "dump.rdb")
	loaded.awaitInfo("loading", "0")
	require.Equal(t, p.do("DEBUG", "DIGEST"), loaded.do("DEBUG", "DIGEST"))
	st, err := os.Stat(filepath.Join(dir, "dump.rdb"))
	require.NoError(t, err)
	require.Positive(t, st.Size())

	// redis-cli --replica prints the stream.
	cmd := exec.Command(cli, "-p", p.port(), "--replica")
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	seen := make(chan string, 1)
	go func() {
		var text strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := pipe.Read(buf)
			text.Write(buf[:n])
			if strings.Contains(text.String(), "\"marked\"") || err != nil {
				seen <- text.String()
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return p.info("connected_slaves") == "1" }, 20*time.Second, 5*time.Millisecond)
	p.do("SET", "marked", "1")
	require.Contains(t, <-seen, "\"SET\",\"marked\",\"1\"")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
}

// A type that we do not have is refused by name before anything is replaced.
func TestForeignTypesAreRefused(t *testing.T) {
	p := redisPeer(t, "--repl-diskless-sync-delay", "0")
	r := newPeer(t, holdfast(t, "--replica-accept-empty-primary", "yes").Addr())
	require.Equal(t, "+OK\r\n", r.do("SET", "mine", "1"))
	p.do("XADD", "stream", "*", "a", "b")
	require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "127.0.0.1", p.port()))
	require.Eventually(t, func() bool { return strings.Contains(r.info("master_link_error"), "stream") }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, "$1\r\n1\r\n", r.do("GET", "mine"))
	p.do("DEL", "stream")
	r.awaitInfo("master_link_status", "up")
	require.Equal(t, "$-1\r\n", r.do("GET", "mine"))
}

// A command that we do not have stops the stream before anything of it is applied. What it did may be gone later: then a snapshot leads
// past it, also after a role of our own meanwhile.
func TestForeignCommandInStream(t *testing.T) {
	p := redisPeer(t, "--repl-diskless-sync-delay", "0")
	r := newPeer(t, holdfast(t).Addr())
	require.Equal(t, "+OK\r\n", p.do("SET", "mine", "1"))
	r.follow(p)
	p.do("XADD", "stream", "*", "a", "b")
	require.Eventually(t, func() bool { return strings.Contains(r.info("master_link_error"), `unknown command "XADD"`) }, 20*time.Second, time.Millisecond)
	require.Equal(t, "$1\r\n1\r\n", r.do("GET", "mine"))
	require.Eventually(t, func() bool {
		return strings.Contains(r.info("master_link_error"), "a stream") || strings.Contains(r.info("master_link_error"), "stream-")
	},
		20*time.Second, time.Millisecond, "the snapshot is refused by name, too")
	require.Equal(t, "$1\r\n1\r\n", r.do("GET", "mine"))
	require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "NO", "ONE"))
	p.do("DEL", "stream")
	r.follow(p)
	same(t, p, r)
	require.Equal(t, "+OK\r\n", p.do("SET", "mine", "2"))
	same(t, p, r)
}
