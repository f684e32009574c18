package server

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mapOf reads a reply that is a map in RESP3 and a list of pairs in RESP2.
func mapOf(t *testing.T, n node) map[string]node {
	t.Helper()
	require.Zero(t, len(n.items)%2)
	m := map[string]node{}
	for i := 0; i < len(n.items); i += 2 {
		m[n.items[i].text] = n.items[i+1]
	}
	return m
}

func ask(t *testing.T, c *wire, args ...string) node {
	t.Helper()
	n, rest := parseReply(t, c.do(args...))
	require.Empty(t, rest)
	return n
}

func number(t *testing.T, n node) int64 {
	t.Helper()
	v, err := strconv.ParseInt(n.text, 10, 64)
	require.NoError(t, err, "%+v", n)
	return v
}

// HOLDFAST LOG tells how far the log reaches, since when, and what keeps it.
func TestHoldfastLog(t *testing.T) {
	srv := holdfast(t, "--repl-log-max-age", "1h")
	c := dial(t, srv.Addr())
	l := mapOf(t, ask(t, c, "HOLDFAST", "LOG"))
	require.Equal(t, "0", l["end-offset"].text)
	require.True(t, l["first-time-ms"].null)
	before := time.Now().UnixMilli()
	require.Equal(t, "+OK\r\n", c.do("SET", "k", "v"))
	l = mapOf(t, ask(t, c, "holdfast", "log"))
	end := number(t, l["end-offset"])
	require.Positive(t, end)
	require.Equal(t, l["durable-offset"].text, l["end-offset"].text)
	require.Equal(t, l["bytes"].text, l["end-offset"].text)
	require.Equal(t, "0", l["first-offset"].text)
	require.GreaterOrEqual(t, number(t, l["first-time-ms"]), before-1000)
	require.Equal(t, l["first-time-ms"].text, l["end-time-ms"].text)
	require.Equal(t, "3600", l["retention-max-age-sec"].text)
	require.Equal(t, "0", l["retention-max-bytes"].text)
	require.Len(t, l["lineage"].items, 1)
	id := mapOf(t, l["lineage"].items[0])
	require.Equal(t, srv.Engine().ReplID(), id["replication-id"].text)
	require.True(t, id["end-offset"].null)
	held := mapOf(t, l["held-by"].items[0])
	require.Equal(t, "0", held["offset"].text)

	at := l["first-time-ms"].text
	require.Equal(t, ":0\r\n", c.do("HOLDFAST", "LOG", "TIME", at))
	require.Equal(t, ":"+at+"\r\n", c.do("HOLDFAST", "LOG", "OFFSET", "0"))
	require.Equal(t, ":"+l["end-offset"].text+"\r\n", c.do("HOLDFAST", "LOG", "TIME", strconv.FormatInt(time.Now().UnixMilli()+1e6, 10)))
	require.Contains(t, c.do("HOLDFAST", "LOG", "OFFSET", l["end-offset"].text), "beyond the end")
	require.Contains(t, c.do("HOLDFAST", "LOG", "OFFSET", "x"), "not an integer")
	require.Contains(t, c.do("HOLDFAST", "LOG", "TIME", "x"), "not an integer")
	require.Contains(t, c.do("HOLDFAST", "LOG", "x"), "syntax")
	require.Contains(t, c.do("HOLDFAST", "NOPE"), "unknown subcommand")
	require.Contains(t, c.do("HOLDFAST"), "wrong number")
	require.Contains(t, c.do("HOLDFAST", "HELP"), "SLOTS")

	// Retention changes while the server runs.
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "repl-log-max-bytes", "1mb", "log-retain-age", "0"))
	l = mapOf(t, ask(t, c, "HOLDFAST", "LOG"))
	require.Equal(t, "1048576", l["retention-max-bytes"].text)
	require.Equal(t, "0", l["retention-max-age-sec"].text)

	c.do("HELLO", "3")
	require.True(t, strings.HasPrefix(c.do("HOLDFAST", "LOG"), "%14\r\n"))
}

// HOLDFAST SLOTS lists, creates and drops; INFO shows them.
func TestHoldfastSlots(t *testing.T) {
	srv := holdfast(t)
	c := dial(t, srv.Addr())
	require.Equal(t, "*0\r\n", c.do("HOLDFAST", "SLOTS"))
	require.Equal(t, "+OK\r\n", c.do("SET", "k", "v"))
	end := int64(srv.Engine().Log().Durable())
	require.Equal(t, "+OK\r\n", c.do("HOLDFAST", "SLOTS", "CREATE", "b"))
	require.Equal(t, "+OK\r\n", c.do("HOLDFAST", "SLOTS", "CREATE", "a", "0"))
	list := ask(t, c, "HOLDFAST", "SLOTS", "LIST")
	require.Len(t, list.items, 2)
	a, b := mapOf(t, list.items[0]), mapOf(t, list.items[1])
	require.Equal(t, "a", a["name"].text)
	require.Equal(t, "away", a["state"].text)
	require.Equal(t, "0", a["offset"].text)
	require.Equal(t, end, number(t, a["held-bytes"]))
	require.True(t, a["seen-ms"].null)
	require.True(t, a["reason"].null)
	require.Equal(t, end, number(t, b["offset"]))
	require.Equal(t, "0", b["held-bytes"].text)
	info := c.do("INFO", "holdfast")
	require.Contains(t, info, "slot0:name=a,state=away,offset=0,")
	require.Contains(t, info, "log_held_by:retention without a limit")
	held := mapOf(t, ask(t, c, "HOLDFAST", "LOG"))["held-by"]
	require.Len(t, held.items, 4)

	for want, args := range map[string][]string{
		"already":       {"CREATE", "a"},
		"name is":       {"CREATE", "a b"},
		"durable up to": {"CREATE", "c", "1000000"},
		"not an int":    {"CREATE", "c", "-1"},
		"no such slot":  {"DROP", "c\r\n"},
		"syntax":        {"NOPE"},
	} {
		require.Contains(t, c.do(append([]string{"HOLDFAST", "SLOTS"}, args...)...), want)
	}
	srv.Engine().SlotActive("b", true)
	require.Contains(t, c.do("HOLDFAST", "SLOTS", "DROP", "b"), "attached")
	srv.Engine().SlotActive("b", false)
	require.Equal(t, "+OK\r\n", c.do("HOLDFAST", "SLOTS", "DROP", "b"))
	require.Equal(t, "+OK\r\n", c.do("HOLDFAST", "SLOTS", "DROP", "a"))
	require.Equal(t, "*0\r\n", c.do("HOLDFAST", "SLOTS"))
	c.do("HELLO", "3")
	c.do("HOLDFAST", "SLOTS", "CREATE", "z")
	require.True(t, strings.HasPrefix(c.do("HOLDFAST", "SLOTS"), "*1\r\n%7\r\n"))
}
