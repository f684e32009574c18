package server

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// numberIn returns a number of a line of fields like slave0's, -1 if there is none.
func numberIn(line, field string) int64 {
	for f := range strings.SplitSeq(line, ",") {
		if v, ok := strings.CutPrefix(f, field+"="); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return -1
}

// A full sync between two of ours is bounded by a rate that can be changed meanwhile, tells how far it is on both sides, and goes
// on with what is there after a restart of the replica. Readers get the old data all along.
func TestFullSyncByTables(t *testing.T) {
	p := newPeer(t, holdfast(t, "--repl-sync-max-bytes-per-second", "50000").Addr())
	fill(p, "a")
	dir := t.TempDir()
	start := func() (*Server, *peer) {
		cfg := NewConfig()
		require.NoError(t, cfg.LoadFlags([]string{"--bind", "127.0.0.1", "--dir", dir, "--enable-debug-command", "yes"}))
		s, err := Start(context.Background(), Options{Config: cfg, AnyPort: true})
		require.NoError(t, err)
		return s, newPeer(t, s.Addr())
	}
	s, r := start()
	require.Equal(t, "+OK\r\n", r.do("SET", "old", "data"))
	require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "127.0.0.1", p.port()))

	var total, read int64
	underway := func() bool {
		var err error
		if r.info("master_sync_in_progress") != "1" {
			return false
		}
		if total, err = strconv.ParseInt(r.info("master_sync_total_bytes"), 10, 64); err != nil {
			return false
		}
		read, err = strconv.ParseInt(r.info("master_sync_read_bytes"), 10, 64)
		return err == nil && total > 0 && read > total/10
	}
	require.Eventually(t, underway, 30*time.Second, 5*time.Millisecond)
	require.Less(t, read, total)
	line := p.info("slave0")
	require.Contains(t, line, "state=send_bulk")
	require.Equal(t, total, numberIn(line, "sync_total"))
	require.Positive(t, numberIn(line, "sync_sent"))
	require.Zero(t, numberIn(line, "sync_had"))
	require.Equal(t, "$4\r\ndata\r\n", r.do("GET", "old"))
	perc, err := strconv.ParseFloat(r.info("master_sync_perc"), 64)
	require.NoError(t, err)
	require.Greater(t, perc, 9.0)
	require.Less(t, perc, 100.0)

	require.NoError(t, s.close(context.Background(), false))
	s, r = start()
	require.Eventually(t, func() bool { return numberIn(p.info("slave0"), "sync_had") > 0 }, 30*time.Second, 5*time.Millisecond,
		"it goes on with what is there")
	require.Equal(t, "$4\r\ndata\r\n", r.do("GET", "old"))
	require.Equal(t, "+OK\r\n", p.do("SET", "written", "meanwhile"))
	require.Equal(t, "+OK\r\n", p.do("CONFIG", "SET", "repl-sync-max-bytes-per-second", "0"))
	r.awaitInfo("master_link_status", "up")
	same(t, p, r)
	require.Equal(t, "$-1\r\n", r.do("GET", "old"))
	require.NoError(t, s.close(context.Background(), false))
}
