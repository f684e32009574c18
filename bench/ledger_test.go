package bench

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"
)

// forgetful is a server with a data set that can be set back.
type forgetful struct {
	sync.Mutex
	data     map[string]string
	replicas int
	readonly bool
}

func (f *forgetful) answer(cmd redcon.Command) string {
	f.Lock()
	defer f.Unlock()
	switch string(cmd.Args[0]) {
	case "SET":
		if f.readonly {
			return "-READONLY You can't write against a read only replica.\r\n"
		}
		f.data[string(cmd.Args[1])] = string(cmd.Args[2])
		return "+OK\r\n"
	case "GET":
		if v, ok := f.data[string(cmd.Args[1])]; ok {
			return string(redcon.AppendBulkString(nil, v))
		}
		return "$-1\r\n"
	case "WAIT":
		return ":" + strconv.Itoa(f.replicas) + "\r\n"
	}
	return "-ERR unknown\r\n"
}

func runLedger(t *testing.T, l *Ledger, addr string) {
	l.Cut()
	l.Start(t.Context())
	require.NoError(t, until(t.Context(), time.Minute, "an acknowledgement", func() (bool, error) { return l.ackedBy(addr), nil }))
	require.NoError(t, l.Stop())
}

func TestLedgerFindsWhatWasLost(t *testing.T) {
	f := &forgetful{data: map[string]string{}, replicas: 1}
	addr := fakeServer(t, f.answer)
	l := NewLedger(LedgerOptions{Addr: addr, Writers: 2, Keys: 3, Depth: 2, Replicas: 1, Seed: 1})
	runLedger(t, l, addr)
	found, err := l.Check(addr)
	require.NoError(t, err)
	require.Zero(t, found.lost)
	require.NotZero(t, found.keys)

	old := l.writers[0].value(0, 1)
	require.Less(t, int64(1), l.writers[0].version)
	l.writers[0].sent[0], l.writers[0].acked[0] = 2, 2
	f.data[l.writers[0].key(0)] = old
	found, err = l.Check(addr)
	require.NoError(t, err)
	require.Equal(t, 1, found.lost, found.example)
	found, err = l.Check(addr)
	require.NoError(t, err)
	require.Zero(t, found.lost, "told once")

	f.data[l.writers[0].key(0)] = l.writers[0].value(0, 3)
	_, err = l.Check(addr)
	require.ErrorContains(t, err, "never sent")
	f.data[l.writers[0].key(0)] = "x"
	_, err = l.Check(addr)
	require.ErrorContains(t, err, "never sent")
}

// What WAIT does not confirm may be lost, and what is refused was not written.
func TestLedgerCountsOnlyWhatWasConfirmed(t *testing.T) {
	f := &forgetful{data: map[string]string{}, replicas: 0}
	addr := fakeServer(t, f.answer)
	l := NewLedger(LedgerOptions{Addr: addr, Writers: 1, Keys: 3, Depth: 1, Replicas: 1, Seed: 1})
	l.Start(t.Context())
	require.NoError(t, until(t.Context(), time.Minute, "a write", func() (bool, error) {
		f.Lock()
		defer f.Unlock()
		return len(f.data) == 3, nil
	}))
	require.NoError(t, l.Stop())
	require.Zero(t, l.Cut().acked)
	f.data = map[string]string{}
	found, err := l.Check(addr)
	require.NoError(t, err)
	require.Zero(t, found.lost)

	f.readonly = true
	other := &forgetful{data: map[string]string{}, replicas: 1}
	next := fakeServer(t, other.answer)
	l.Start(t.Context())
	l.SetAddr(next)
	require.NoError(t, until(t.Context(), time.Minute, "the other server to acknowledge", func() (bool, error) { return l.ackedBy(next), nil }))
	require.NoError(t, l.Stop())
	require.Empty(t, f.data)
	found, err = l.Check(next)
	require.NoError(t, err)
	require.Zero(t, found.lost)
}
