package wal

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// A log that was closed is opened without reading its commit log again: all of it is in tables.
func TestCloseLeavesTables(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewCrashableMem()
	l := open(t, fs, Options{})
	for i := range 100 {
		l.Append(set(i, 1000), 0, 0)
	}
	require.NoError(t, l.Sync(ctx))
	end := l.End()
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, l.Close())

	l = open(t, fs, Options{})
	require.Equal(t, end, l.End())
	require.NoError(t, l.flushTables())
	require.Zero(t, l.Metrics().Flushed)
	require.NoError(t, l.Close())

	// One that was cut off has it to do.
	l = open(t, cut, Options{})
	require.Equal(t, end, l.End())
	require.NoError(t, l.flushTables())
	require.Greater(t, l.Metrics().Flushed, int64(end)/2)
	require.NoError(t, l.Close())
}
