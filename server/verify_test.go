package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/verify"
)

// runVerify returns the report and the exit status of holdfast verify.
func runVerify(t testing.TB, peers ...*peer) (*verify.Report, int) {
	var addrs []string
	for _, p := range peers {
		addrs = append(addrs, p.addr)
	}
	var out, errs bytes.Buffer
	v := verify.Command{JSON: true, Wait: 20 * time.Second}
	status := v.Run(context.Background(), addrs, &out, &errs)
	require.NotEqual(t, 2, status, errs.String())
	var r verify.Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	return &r, status
}

// writing writes to p until the test ends it.
func writing(t testing.TB, p *peer) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	w := dial(t, p.addr)
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			n := strconv.Itoa(i % 500)
			w.do("SET", "written:"+n, strconv.Itoa(i))
			w.do("HSET", "written:hash", "f"+n, strconv.Itoa(i))
			w.do("EXPIRE", "written:"+n, "1000")
			w.do("LPUSH", "written:list", n)
		}
	})
	return func() { close(done); wg.Wait() }
}

func TestVerify(t *testing.T) {
	p := newPeer(t, holdfast(t, "--appendfsync", "everysec").Addr())
	// Limits differ, so that the same data stand in other rows.
	r := newPeer(t, holdfast(t, "--appendfsync", "everysec", "--hash-max-listpack-entries", "4", "--set-max-intset-entries", "2").Addr())
	c := newPeer(t, holdfast(t, "--appendfsync", "everysec").Addr())
	fill(p, "a")
	r.follow(p)
	c.follow(r)
	stop := writing(t, p)
	for range 3 {
		report, status := runVerify(t, p, r, c)
		require.Equal(t, 0, status, "%+v", report)
		require.Empty(t, report.Differences)
		require.Contains(t, report.Guarantee, "exact")
		require.Positive(t, report.Keys)
		require.Equal(t, report.Keys, report.Servers[2].Keys)
	}
	report, status := runVerify(t, c, r)
	require.Equal(t, 0, status, "the primary need not be named: %+v", report)

	plant := func(args ...string) {
		require.Equal(t, "+OK\r\n", r.do(append([]string{"DEBUG", "PLANT"}, args...)...))
	}
	plant("DEL", "string:a3")
	plant("SET", "planted", "x")
	plant("HSET", "hash:a4", "f", "other")
	plant("PEXPIREAT", "zset:a5", "99999999999999")
	plant("DEL", "list:a6")
	plant("SADD", "list:a6", "1")
	plant("ZADD", "bigzset:a", "7777", "member12")
	plant("LSET", "biglist:a", "300", "other")
	require.Equal(t, "+OK\r\n", r.do("SELECT", "3"))
	plant("HDEL", "bighash:a", "field5")
	report, status = runVerify(t, p, r, c)
	require.Equal(t, 1, status)
	var found []string
	for _, d := range report.Differences {
		require.Equal(t, r.addr, d.Server)
		found = append(found, fmt.Sprint(d.DB, " ", d.Key, " ", d.How))
	}
	require.ElementsMatch(t, []string{"0 string:a3 missing", "0 planted extra", "0 hash:a4 value", "0 zset:a5 ttl", "0 list:a6 type",
		"0 bigzset:a value", "0 biglist:a value", "3 bighash:a value"}, found)
	stop()

	require.Contains(t, r.do("HOLDFAST", "MARK"), "-ERR a replica makes no marks")
	require.Equal(t, "-NOMARK no such mark\r\n", p.do("HOLDFAST", "DIGEST", "none", "0", "", "2"))
	require.Equal(t, "-NOMARK no such mark\r\n", p.do("HOLDFAST", "MARKED", "none", "1"))
	require.Contains(t, p.do("HOLDFAST", "DIGEST", "none", "0", "zz", "2"), "-ERR invalid prefix")
}

// A view that verify uses does not stand in the way of a full sync, of FLUSHALL, or of the end of the server.
func TestMarksGiveWay(t *testing.T) {
	p, r := newPeer(t, holdfast(t).Addr()), newPeer(t, holdfast(t).Addr())
	other := newPeer(t, holdfast(t).Addr())
	fill(p, "a")
	fill(other, "b")
	require.Equal(t, "*2\r\n", r.do("HOLDFAST", "MARK")[:4])
	r.follow(p)
	require.Equal(t, "*2\r\n", p.do("HOLDFAST", "MARK")[:4])
	require.Equal(t, "+OK\r\n", p.do("FLUSHALL"))
	for range 5 {
		require.Equal(t, "*2\r\n", p.do("HOLDFAST", "MARK")[:4])
	}
	same(t, p, r)
	r.follow(other)
	same(t, other, r)
}

func TestVerifyRedis(t *testing.T) {
	p := newPeer(t, holdfast(t, "--appendfsync", "everysec").Addr())
	r := redisPeer(t, "--replica-read-only", "no")
	fill(p, "a")
	r.follow(p)
	stop := writing(t, p)
	report, status := runVerify(t, p, r)
	require.Equal(t, 0, status, "%+v", report)
	require.Contains(t, report.Guarantee, "exact")
	require.Equal(t, ":1\r\n", r.do("DEL", "string:a3"))
	require.Equal(t, ":1\r\n", r.do("PERSIST", "lives:a"))
	require.Equal(t, ":2\r\n", r.do("RPUSH", "planted", "1", "2"))
	report, status = runVerify(t, p, r)
	require.Equal(t, 1, status)
	var found []string
	for _, d := range report.Differences {
		found = append(found, fmt.Sprint(d.Key, " ", d.How))
	}
	require.ElementsMatch(t, []string{"string:a3 missing", "lives:a ttl", "planted extra"}, found)
	stop()

	// The other way round, and without a pause.
	a := redisPeer(t, "--repl-diskless-sync-delay", "0")
	b := newPeer(t, holdfast(t, "--appendfsync", "everysec").Addr())
	fill(a, "x")
	b.follow(a)
	report, status = runVerify(t, a, b)
	require.Equal(t, 0, status, "%+v", report)
	var out, errs bytes.Buffer
	v := verify.Command{NoPause: true}
	require.Equal(t, 0, v.Run(context.Background(), []string{a.addr, b.addr}, &out, &errs), errs.String())
	require.Contains(t, out.String(), "not a proof")
	require.Equal(t, 2, v.Run(context.Background(), []string{a.addr, p.addr}, &out, &errs), "two histories")
}
