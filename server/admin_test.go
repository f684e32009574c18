package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Once BGSAVE has replied, INFO says that it runs, or it is over and LASTSAVE has moved.
func TestBgSaveShowsAtOnce(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	for i := range 50 {
		require.Equal(t, "+OK\r\n", w.do("SET", "k", string(rune('a'+i%26))))
		before := s.Engine().LastCheckpoint().Count
		reply := w.line("bgsave")
		running := strings.Contains(w.line("info persistence"), "rdb_bgsave_in_progress:1\r\n")
		require.Equal(t, "+Background saving started\r\n", reply)
		require.True(t, running || s.Engine().LastCheckpoint().Count > before, "neither running nor done")
		until(t, "it ends", func() bool {
			return strings.Contains(w.line("info persistence"), "rdb_bgsave_in_progress:0\r\n")
		})
		require.Greater(t, s.Engine().LastCheckpoint().Count, before)
	}
}

// A plan shows as running before anything of it has happened.
func TestPlannedCheckpointCountsAsRunning(t *testing.T) {
	s := holdfast(t)
	take := s.Engine().PlanCheckpoint()
	require.True(t, s.Engine().LastCheckpoint().Running)
	w := dial(t, s.Addr())
	require.Equal(t, "-ERR Background save already in progress\r\n", w.line("bgsave"))
	require.NoError(t, take(t.Context()))
	require.False(t, s.Engine().LastCheckpoint().Running)
}

func TestLastSave(t *testing.T) {
	start := time.Now().Unix()
	w := dial(t, holdfast(t).Addr())
	at := func() int64 {
		n := w.line("lastsave")
		require.Equal(t, byte(':'), n[0])
		var v int64
		for _, c := range strings.Trim(n, ":\r\n") {
			v = v*10 + int64(c-'0')
		}
		return v
	}
	require.GreaterOrEqual(t, at(), start, "new data count as saved when they were made")
	require.Equal(t, "+OK\r\n", w.line("set k v"))
	before := time.Now().Unix()
	require.Equal(t, "+OK\r\n", w.line("save"))
	require.GreaterOrEqual(t, at(), before)
	require.LessOrEqual(t, at(), time.Now().Unix())
	require.Equal(t, "+OK\r\n", w.line("save"), "nothing has changed")
	require.GreaterOrEqual(t, at(), before)
}

// COMMAND LIST names subcommands too, as redis-server does; what both know both list.
func TestCommandListLikeRedis(t *testing.T) {
	names := func(w *wire) []string {
		var out []string
		for _, l := range strings.Split(w.line("command list"), "\r\n") {
			if l != "" && l[0] != '$' && l[0] != '*' {
				out = append(out, l)
			}
		}
		slices.Sort(out)
		return out
	}
	theirs, ours := names(dial(t, oracle(t))), names(dial(t, holdfast(t).Addr()))
	for _, n := range ours {
		if !newer[n] && !strings.HasPrefix(n, "holdfast") {
			require.Contains(t, theirs, n)
		}
	}
	require.Contains(t, ours, "client|list")
}

func TestLatencyGraph(t *testing.T) {
	samples := []latencySample{{at: 1000, ms: 10}, {at: 4000, ms: 120}, {at: 4530, ms: 65}, {at: 4590, ms: 10}}
	require.Equal(t, "command - high 120 ms, low 10 ms (all time high 300 ms)\n"+strings.Repeat("-", 80)+`
 #
 |
 |#
_||_

1111
h0m0
 m s
`, latencyGraph("command", samples, 300, 4600))
}

// NO-TOUCH leaves idle times alone, but for TOUCH.
func TestNoTouch(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	idle := func() string { return w.line("object idletime k") }
	require.Equal(t, "+OK\r\n", w.line("set k v"))
	age := func() {
		s.Engine().Lock()
		db := s.Engine().DB(0)
		db.SetIdle(db.Peek([]byte("k")), 1000)
		s.Engine().Unlock()
	}
	age()
	require.Equal(t, "+OK\r\n", w.line("client no-touch on"))
	require.Contains(t, w.line("client info"), "flags=T ")
	w.raw("GET k\r\nMULTI\r\nGET k\r\nEXEC\r\n")
	for range 4 {
		w.read()
	}
	require.Regexp(t, `^:100\d\r\n$`, idle())
	require.Equal(t, ":1\r\n", w.line("touch k"))
	require.Regexp(t, `^:\d\r\n$`, idle())
	age()
	other := dial(t, s.Addr())
	require.Equal(t, "$1\r\nv\r\n", other.line("get k"))
	require.Regexp(t, `^:\d\r\n$`, idle())
	age()
	require.Equal(t, "+OK\r\n", w.line("client no-touch off"))
	require.Equal(t, "$1\r\nv\r\n", w.line("get k"))
	require.Regexp(t, `^:\d\r\n$`, idle())
}

// DEBUG RELOAD takes a checkpoint, DEBUG RELOAD NOSAVE and DEBUG LOADAOF replay the log since the last one; all bring back the same data.
func TestReload(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	for i, c := range []struct {
		line  string
		saves bool
	}{{"debug reload nosave", false}, {"debug loadaof", false}, {"debug reload noflush merge", true}, {"debug reload", true}} {
		require.Equal(t, "+OK\r\n", w.line(fmt.Sprint("set k ", i)))
		require.Equal(t, ":1\r\n", w.line(fmt.Sprint("rpush l", i, " x")))
		digest, before := w.line("debug digest"), s.Engine().LastCheckpoint()
		require.Equal(t, "+OK\r\n", w.line(c.line))
		require.Equal(t, c.saves, s.Engine().LastCheckpoint().Offset > before.Offset, c.line)
		require.Equal(t, digest, w.line("debug digest"), c.line)
		require.Equal(t, fmt.Sprintf("$1\r\n%d\r\n", i), w.line("get k"))
	}
}

// INFO tells who waits for a key, and for how long; and of a checkpoint while it runs.
func TestInfoOfBlockedClients(t *testing.T) {
	s := holdfast(t)
	w, a, b := dial(t, s.Addr()), dial(t, s.Addr()), dial(t, s.Addr())
	has := func(lines ...string) bool {
		info := w.line("info clients")
		return !slices.ContainsFunc(lines, func(l string) bool { return !strings.Contains(info, l+"\r\n") })
	}
	require.True(t, has("blocked_clients:0", "clients_in_timeout_table:0"))
	a.send("BLPOP", "none", "0")
	b.send("BLPOP", "none", "100")
	until(t, "two wait, one of them for a limited time", func() bool { return has("blocked_clients:2", "clients_in_timeout_table:1") })
	require.Equal(t, "+OK\r\n", w.line("config resetstat"))
	require.True(t, has("blocked_clients:2", "clients_in_timeout_table:1"))
	require.Equal(t, ":2\r\n", w.line("rpush none x y"))
	until(t, "nobody waits", func() bool { return has("blocked_clients:0", "clients_in_timeout_table:0") })
	require.Contains(t, w.line("info persistence"), "rdb_current_bgsave_time_sec:-1\r\n")
}
