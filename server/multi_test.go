package server

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// Session commands inside MULTI run at EXEC, in their place among the others, with what redis-server answers.
func TestSessionCommandsInTransactionLikeRedis(t *testing.T) {
	theirs, ours := dial(t, oracle(t)), dial(t, holdfast(t).Addr())
	for _, line := range strings.Split(strings.TrimSpace(`
		multi
		config set hash-max-listpack-entries 1
		hset h a 1 b 2
		object encoding h
		config set hash-max-listpack-entries 512 nosuch 1
		config set hash-max-listpack-entries 512 slowlog-max-len 7
		hset g a 1 b 2
		object encoding g
		config get slowlog-max-len
		debug set-active-expire 1
		debug sleep 0
		debug digest-value g nosuch
		debug object nosuch
		debug nosuch
		memory purge
		config resetstat
		wait 0 0
		latency reset
		slowlog len
		select 3
		set k v
		debug digest-value k
		select 0
		dbsize
		exec
		multi
		set a 1
		debug reload
		incr a
		debug reload
		incr a
		exec
		watch a
		set a 5
		multi
		debug reload
		set a 6
		exec
		get a
		multi
		debug reload
		exec
		get a
		multi
		config set slowlog-max-len 9
		discard
		config get slowlog-max-len
		multi
		config set slowlog-max-len
		exec`), "\n") {
		require.Equal(t, theirs.line(line), ours.line(line), line)
	}
}

// INFO inside a transaction tells of the data at its place, and the transaction stays one record of the log (W2).
func TestInfoInTransaction(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	from := s.Engine().Log().End()
	w.raw("MULTI\r\nSET a 1\r\nINFO keyspace\r\nSET b 2\r\nINFO keyspace\r\nINFO memory\r\nMEMORY STATS\r\nLATENCY DOCTOR\r\nCONFIG RESETSTAT\r\nDEL a b\r\nINFO keyspace\r\nEXEC\r\n")
	for range 11 {
		w.read()
	}
	got := w.read()
	require.True(t, strings.HasPrefix(got, "*10\r\n+OK\r\n$"), "%q", got)
	require.Regexp(t, `(?s)db0:keys=1,.*db0:keys=2,.*used_memory:.*keys\.count.*executor lock.*\+OK\r\n:2\r\n\$12\r\n# Keyspace\r\n\r\n$`, got)
	require.Equal(t, "MULTI SET SET DEL EXEC", logged(t, s, from))
}

// A command for which the lock has to be let go of cuts the transaction in two records; its effects stand between theirs.
func TestTransactionIsCut(t *testing.T) {
	s := holdfast(t)
	w := dial(t, s.Addr())
	require.Equal(t, "+OK\r\n", w.line("set warm 1"))
	from := s.Engine().Log().End()
	w.raw("MULTI\r\nSET a 1\r\nSET b 1\r\nDEBUG RELOAD\r\nDEBUG UNLOAD\r\nGET a\r\nINCR b\r\nEXEC\r\n")
	for range 7 {
		w.read()
	}
	require.Regexp(t, `^\*6\r\n\+OK\r\n\+OK\r\n\+OK\r\n:\d\r\n\$1\r\n1\r\n:2\r\n$`, w.read())
	require.Equal(t, "MULTI SET SET EXEC INCR", logged(t, s, from))
}

var loggedName = regexp.MustCompile(`\*\d+\r\n\$\d+\r\n(\w+)\r\n`)

// logged names the commands in the log from an offset on, without SELECT.
func logged(t *testing.T, s *Server, from wal.Offset) string {
	ctx := context.Background()
	log := s.Engine().Log()
	require.NoError(t, log.Sync(ctx))
	r, err := log.NewReader(from)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	var b []byte
	for r.Offset() < log.Durable() {
		_, data, err := r.Next(ctx)
		require.NoError(t, err)
		b = append(b, data...)
	}
	var names []string
	for _, m := range loggedName.FindAllSubmatch(b, -1) {
		if name := strings.ToUpper(string(m[1])); name != "SELECT" {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// CONFIG SET in and outside of transactions, INFO and writes, all at once: the locks have an order.
func TestConfigSetInTransactionsAtOnce(t *testing.T) {
	s := holdfast(t, "--io-threads", "2")
	const rounds = 50
	var wg sync.WaitGroup
	for i := range 4 {
		w := dial(t, s.Addr())
		wg.Go(func() {
			for n := range rounds {
				set := fmt.Sprintf("CONFIG SET hash-max-listpack-entries %d maxmemory-policy noeviction\r\n", n+i)
				w.raw("SET k 1\r\n" + set + "MULTI\r\nSET k 2\r\n" + set + "INFO\r\nEXEC\r\nINFO\r\n")
				for range 8 {
					assert.NotEqual(t, "", w.read())
				}
			}
		})
	}
	wg.Wait()
}
