package server

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/engine"
)

// eventually waits for what other goroutines and the network bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 30*time.Second, 5*time.Millisecond, what)
}

// slotNamed returns the slot of that name.
func slotNamed(srv *Server, name string) (engine.SlotInfo, bool) {
	for _, s := range srv.Engine().Slots() {
		if s.Name == name {
			return s, true
		}
	}
	return engine.SlotInfo{}, false
}

// A named replica, begun from a copy of the primary's directory, finds the log when it comes back, though all that it lacks would
// have been trimmed; without a slot it would need a full sync.
func TestNamedReplicaComesBack(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	seed := holdfast(t, "--dir", dir)
	dial(t, seed.Addr()).do("SET", "seed", "v")
	require.NoError(t, seed.Close(ctx))
	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))

	primary := holdfast(t, "--dir", dir, "--repl-log-max-bytes", "1kb")
	c := dial(t, primary.Addr())
	value := strings.Repeat("v", 1000)
	grow := func() {
		for i := range 50 {
			require.Equal(t, "+OK\r\n", c.do("SET", "k"+strconv.Itoa(i), value))
		}
		require.Equal(t, "+OK\r\n", c.do("DEBUG", "CHECKPOINT"))
	}
	follow := func() *Server {
		return holdfast(t, "--dir", copied, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port()), "--replica-name", "r1")
	}
	inStep := func(r *Server) func() bool {
		return func() bool { return r.Engine().Log().Durable() == primary.Engine().Log().Durable() }
	}
	r := follow()
	require.Equal(t, "+OK\r\n", c.do("SET", "first", value))
	eventually(t, "in step", inStep(r))
	require.Contains(t, c.do("INFO", "replication"), ",name=r1")
	eventually(t, "its slot has moved", func() bool {
		s, ok := slotNamed(primary, "r1")
		return ok && s.Active && s.Offset == primary.Engine().Log().Durable()
	})
	require.NoError(t, r.Close(ctx))
	eventually(t, "the slot is left", func() bool { s, _ := slotNamed(primary, "r1"); return !s.Active })
	at, _ := slotNamed(primary, "r1")
	grow()
	grow()
	require.LessOrEqual(t, primary.Engine().Log().First(), at.Offset)
	require.Contains(t, c.do("INFO", "holdfast"), "log_held_by:slot r1")
	x := mapOf(t, ask(t, c, "HOLDFAST", "PSYNC-EXPLAIN", strconv.FormatInt(int64(at.Offset)+1, 10)))
	require.Equal(t, "continue", x["decision"].text)
	require.Equal(t, "there is little to replay", x["reason"].text)
	replay := mapOf(t, x["replay"])
	require.Positive(t, number(t, replay["bytes"]))
	require.Positive(t, number(t, replay["bytes-per-sec"]))

	r = follow()
	eventually(t, "in step again", inStep(r))
	require.Zero(t, primary.repl.primary.Stats().SyncFull)
	rc := dial(t, r.Addr())
	next := strconv.FormatInt(int64(r.Engine().Log().Durable())+1, 10)
	eventually(t, "a replica with a link would serve one of its own", func() bool {
		return mapOf(t, ask(t, rc, "HOLDFAST", "PSYNC-EXPLAIN", next))["decision"].text == "continue"
	})
	require.NoError(t, r.Close(ctx))
	eventually(t, "the slot is left", func() bool { s, _ := slotNamed(primary, "r1"); return !s.Active })
	require.Equal(t, "+OK\r\n", c.do("HOLDFAST", "SLOTS", "DROP", "r1"))
	grow()
	require.Greater(t, primary.Engine().Log().First(), at.Offset)
	x = mapOf(t, ask(t, c, "HOLDFAST", "PSYNC-EXPLAIN", strconv.FormatInt(int64(at.Offset)+1, 10)))
	require.Equal(t, "full", x["decision"].text)
	require.Contains(t, x["reason"].text, "lack of backlog")
	require.Contains(t, c.do("HOLDFAST", "PSYNC-EXPLAIN", "x"), "not an integer")
	require.Contains(t, c.do("HOLDFAST", "PSYNC-EXPLAIN", "1", "2", "3"), "syntax")
	x = mapOf(t, ask(t, c, "HOLDFAST", "PSYNC-EXPLAIN", "1", strings.Repeat("a", 40)))
	require.Equal(t, "full", x["decision"].text)
	require.Contains(t, x["reason"].text, "mismatch")
	require.True(t, x["replay"].null)

	require.Contains(t, c.do("CONFIG", "SET", "replica-name", "a b"), "1 to 64")
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "replica-name", "r2", "repl-sync-choice", "replay"))
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "replica-name", ""))
}
