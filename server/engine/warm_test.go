package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestReadAround names cold keys one by one: each brings its neighbours with it, those that exist and those that do not, and what
// has changed or gone in memory meanwhile is not brought back (K1, K3).
func TestReadAround(t *testing.T) {
	ctx := context.Background()
	fs, c := vfs.NewMem(), &clock{ms: 1_700_000_000_000}
	e := mustOpen(t, testOptions(fs, c))
	fillForPreload(e)
	require.NoError(t, e.Checkpoint(ctx))
	want := e.Digest()
	require.NoError(t, e.Close(ctx))

	e = mustOpen(t, testOptions(fs, c))
	cold := e.DB(0).Cold()
	cl := e.NewClient()
	require.Equal(t, "$10\r\nvalue of 7\r\n", do(e, cl, "GET", "s7"))
	require.Less(t, e.DB(0).Cold(), cold-1) // not s7 alone
	require.Equal(t, "$-1\r\n", do(e, cl, "GET", "absent"))
	for i := range 3000 {
		require.Equal(t, fmt.Sprintf("$%d\r\nvalue of %d\r\n", len(fmt.Sprint("value of ", i)), i), do(e, cl, "GET", fmt.Sprint("s", i)))
	}
	for i := range 7 {
		do(e, cl, "ZCARD", fmt.Sprint("z", i))
	}
	require.LessOrEqual(t, e.DB(0).Cold(), 3) // the big ones, and the one that expires if nobody was near it
	require.Less(t, e.Stats().ColdLoads, int64(1500))
	require.Equal(t, want, e.Digest())
	require.NoError(t, e.Close(ctx))

	// Every other key is changed or deleted first, and its neighbours are read over it.
	e = mustOpen(t, testOptions(fs, c))
	cl = e.NewClient()
	for i := 0; i < 3000; i += 2 {
		key := fmt.Sprint("s", i)
		if i%4 == 0 {
			require.Equal(t, ":1\r\n", do(e, cl, "DEL", key))
		} else {
			require.Equal(t, "+OK\r\n", do(e, cl, "SET", key, "new"))
		}
		if i%500 == 0 {
			require.NoError(t, e.Checkpoint(ctx))
		}
	}
	for i := range 3000 {
		old := fmt.Sprint("value of ", i)
		reply := fmt.Sprintf("$%d\r\n%s\r\n", len(old), old)
		switch i % 4 {
		case 0:
			reply = "$-1\r\n"
		case 2:
			reply = "$3\r\nnew\r\n"
		}
		require.Equal(t, reply, do(e, cl, "GET", fmt.Sprint("s", i)))
	}
	require.NoError(t, e.Close(ctx))
}
