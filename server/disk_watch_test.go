package server

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/engine"
)

// Somebody is warned once for each time that room becomes short, and told what holds the log.
func TestDiskWatch(t *testing.T) {
	var out bytes.Buffer
	free, ok, looks := int64(50), true, 0
	var failure error
	d := diskWatch{
		usage: func() (int64, int64, bool) { looks++; return free, 100, ok },
		holders: func() ([]engine.PinInfo, error) {
			return []engine.PinInfo{{Offset: 7, Why: "slot r1"}, {Offset: 9, Why: "checkpoint"}}, failure
		},
		log: hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info}),
	}
	now := time.Unix(1_700_000_000, 0)
	seconds := func(n int, percent int64) string {
		out.Reset()
		for range n {
			now = now.Add(time.Second)
			d.tick(now, percent)
		}
		return out.String()
	}
	require.Empty(t, seconds(30, 10))
	require.Equal(t, 3, looks)
	free = 9
	s := seconds(100, 10)
	require.Equal(t, 1, strings.Count(s, "the disk is becoming full"), s)
	require.Contains(t, s, `log-held-by="slot r1"`)
	require.Contains(t, s, "log-held-from=7")
	require.Contains(t, s, "free-bytes=9")
	require.Equal(t, "slot r1", d.heldBy(true))
	require.Equal(t, "slot r1", d.heldBy(false))
	f, total := d.room()
	require.Equal(t, [2]int64{9, 100}, [2]int64{f, total})
	free = 10
	require.Contains(t, seconds(10, 10), "room again")
	free, failure = 1, errors.New("log closed")
	require.Contains(t, seconds(10, 10), "log closed")
	require.Equal(t, "log closed", d.heldBy(false))
	free = 0
	require.Contains(t, seconds(10, 0), "room again", "0: nobody wants to know")
	require.Empty(t, seconds(20, 0))
	ok = false
	require.Empty(t, seconds(20, 10))
	_, total = d.room()
	require.Zero(t, total)
	// A clock that was set back does not end the looks.
	ok, free = true, 5
	now = now.Add(-time.Hour)
	require.Contains(t, seconds(1, 10), "becoming full")
}
