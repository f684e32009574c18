package replication

import (
	"testing"

	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

func TestDecide(t *testing.T) {
	// a wrote 0–100, b 100–250, c nothing, d from 250 on; the log is kept from 40 on and durable up to 300.
	lineage := []wal.LineageEntry{{ID: id('a'), Start: 0, End: 100}, {ID: id('b'), Start: 100, End: 250}, {ID: id('c'), Start: 250, End: 250}, {ID: id('d'), Start: 250, End: -1}}
	for name, c := range map[string]struct {
		id    string
		asked int64
		ok    bool
		why   string
	}{
		"full":                              {"?", -1, false, "full resync requested"},
		"in the current id":                 {id('d'), 281, true, ""},
		"nothing missed":                    {id('d'), 301, true, ""},
		"one beyond":                        {id('d'), 302, false, "greater than the master replication offset 300"},
		"first byte kept":                   {id('a'), 41, true, ""},
		"one before the first kept":         {id('a'), 40, false, "lack of backlog"},
		"three ids back, at its end":        {id('a'), 101, true, ""},
		"three ids back, beyond its end":    {id('a'), 102, false, "earlier ID was 102, but I can reply up to 101"},
		"two ids back, at its end":          {id('b'), 251, true, ""},
		"two ids back, beyond its end":      {id('b'), 252, false, "can reply up to 251"},
		"two ids back, before its start":    {id('b'), 60, true, ""},
		"an id without bytes, at its place": {id('c'), 251, true, ""},
		"an id without bytes, beyond":       {id('c'), 252, false, "can reply up to 251"},
		"the current id before its start":   {id('d'), 60, true, ""},
		"unknown id":                        {id('e'), 100, false, "Replication ID mismatch"},
		"no id at all":                      {"", 100, false, "Replication ID mismatch"},
		"offset 0":                          {id('d'), 0, false, "the first one is 1"},
		"negative":                          {id('d'), -1, false, "the first one is 1"},
		"smallest":                          {id('d'), -1 << 63, false, "the first one is 1"},
		"largest":                           {id('d'), 1<<63 - 1, false, "greater than"},
		"bytes that are no text":            {"\x00\n\xff", 5, false, "'???'"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(lineage, 40, 300, c.id, c.asked)
			require.Equal(t, c.ok, d.Continue, d.Why)
			require.Equal(t, c.id != "?", d.Asked)
			if c.ok {
				require.Equal(t, wal.Offset(c.asked-1), d.From)
				require.Empty(t, d.Why)
			} else {
				require.Contains(t, d.Why, c.why)
			}
		})
	}
	require.False(t, Decide(nil, 0, 0, id('a'), 1).Continue)
	require.True(t, Decide([]wal.LineageEntry{{ID: id('a'), End: -1}}, 0, 0, id('a'), 1).Continue, "an empty history, and nothing missed")

	t.Run("an id that came back", func(t *testing.T) {
		back := []wal.LineageEntry{{ID: id('a'), Start: 0, End: 100}, {ID: id('b'), Start: 100, End: 100}, {ID: id('a'), Start: 100, End: 200}, {ID: id('c'), Start: 200, End: -1}}
		require.True(t, Decide(back, 0, 300, id('a'), 201).Continue)
		require.False(t, Decide(back, 0, 300, id('a'), 202).Continue)
		require.True(t, Decide(back, 0, 300, id('b'), 101).Continue)
		require.False(t, Decide(back, 0, 300, id('b'), 102).Continue)
	})
}

func TestAskWith(t *testing.T) {
	ask := func(end wal.Offset, l ...wal.LineageEntry) string {
		got, _ := askWith(l, end)
		return got
	}
	a := wal.LineageEntry{ID: id('a'), Start: 0, End: -1}
	require.Equal(t, id('a'), ask(10, a))
	require.Empty(t, ask(0, a), "no byte, no id")
	a.End = 10
	b := wal.LineageEntry{ID: id('b'), Start: 10, End: -1}
	require.Equal(t, id('a'), ask(10, a, b), "begun at a start and not used")
	require.Equal(t, id('b'), ask(11, a, b))
	b.End = 10
	require.Equal(t, id('a'), ask(10, a, b, wal.LineageEntry{ID: id('c'), Start: 10, End: -1}), "twice")
}

func TestRequest(t *testing.T) {
	args := func(s ...string) (out [][]byte) {
		for _, a := range s {
			out = append(out, []byte(a))
		}
		return out
	}
	for _, c := range []struct {
		in    []string
		reply string
		want  Request
	}{
		{[]string{"listening-port", "6382"}, "OK", Request{Port: 6382}},
		{[]string{"listening-port", "x"}, errInteger, Request{}},
		{[]string{"ip-address", "10.0.0.1"}, "OK", Request{IP: "10.0.0.1"}},
		{[]string{"capa", "eof", "CAPA", "psync2", "capa", "dual-channel"}, "OK", Request{EOF: true, PSYNC2: true, Capa: []string{"eof", "psync2", "dual-channel"}}},
		{[]string{"version", "8.0.1"}, "OK", Request{Version: "8.0.1"}},
		{[]string{"rdb-only", "1"}, "OK", Request{RDBOnly: true}},
		{[]string{"rdb-only", "2"}, errSwitch, Request{}},
		{[]string{"rdb-filter-only", "functions"}, "OK", Request{NoData: true}},
		{[]string{"rdb-filter-only", ""}, "OK", Request{NoData: true}},
		{[]string{"rdb-filter-only", "keys"}, "ERR Unsupported rdb-filter-only option: keys", Request{}},
		{[]string{"ack", "5"}, "", Request{}},
		{[]string{"getack", "*"}, "", Request{}},
		{[]string{"capa"}, errSyntax, Request{}},
		{[]string{"nonsense", "1"}, "ERR Unrecognized REPLCONF option: nonsense", Request{}},
	} {
		var q Request
		reply, ok := q.Replconf(args(c.in...))
		require.Equal(t, c.reply, reply, c.in)
		require.Equal(t, reply == "OK" || reply == "", ok)
		require.Equal(t, c.want, q, c.in)
	}

	var q Request
	require.Empty(t, q.Psync(args(id('a'), "7", "failover")))
	require.Equal(t, Request{ID: id('a'), Offset: 7, Failover: true}, q)
	require.Empty(t, q.Psync(args("?", "-1", "x", "y")))
	require.Equal(t, Request{ID: "?", Offset: -1}, q)
	require.NotEmpty(t, q.Psync(args(id('a'))))
	require.Equal(t, errInteger, q.Psync(args(id('a'), "x")))

	// FAILOVER goes to a replica and names its id.
	for _, c := range []struct {
		q       Request
		s       Standing
		promote bool
		refuse  string
	}{
		{Request{ID: "?"}, Standing{}, false, ""},
		{Request{ID: "?"}, Standing{Loading: true}, false, errLoading},
		{Request{ID: "?"}, Standing{Replica: true}, false, errNoMasterLink},
		{Request{ID: "?"}, Standing{Replica: true, LinkUp: true}, false, ""},
		{Request{ID: id('a'), Failover: true}, Standing{ID: id('a')}, false, errFailoverRole},
		{Request{ID: id('b'), Failover: true}, Standing{ID: id('a'), Replica: true}, false, errFailoverID},
		{Request{ID: id('a'), Failover: true}, Standing{ID: id('a'), Replica: true}, true, ""},
	} {
		promote, refuse := c.q.Admit(c.s)
		require.Equal(t, c.promote, promote)
		require.Equal(t, c.refuse, refuse)
	}

	for _, c := range []struct {
		in        []string
		ack, fack wal.Offset
		ok        bool
	}{
		{[]string{"REPLCONF", "ACK", "12"}, 12, -1, true},
		{[]string{"replconf", "ack", "12", "fack", "10"}, 12, 10, true},
		{[]string{"REPLCONF", "ACK", "12", "FACK", "x"}, 12, -1, true},
		{[]string{"REPLCONF", "ACK", "-12"}, 0, 0, false},
		{[]string{"REPLCONF", "ACK"}, 0, 0, false},
		{[]string{"PING"}, 0, 0, false},
		{[]string{"REPLCONF", "GETACK", "*"}, 0, 0, false},
	} {
		ack, fack, ok := parseAck(args(c.in...))
		require.Equal(t, []any{c.ack, c.fack, c.ok}, []any{ack, fack, ok}, c.in)
	}
}
