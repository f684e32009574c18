package wal

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Who appends much can wait until the committer has caught up, under every policy, and hears of a failed log.
func TestWaitWritten(t *testing.T) {
	ctx := context.Background()
	for _, policy := range []Policy{Always, EverySec, No} {
		l := open(t, vfs.NewMem(), Options{Policy: policy})
		var end Offset
		for i := range 2000 {
			end = l.Append(set(i, 1000), 0, 0)
			if i%100 == 0 {
				require.NoError(t, l.WaitWritten(ctx, end))
				require.Zero(t, l.Pending())
			}
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		require.NoError(t, l.WaitWritten(ctx, end))
		require.ErrorIs(t, l.WaitWritten(canceled, end+1), context.Canceled)
		waited := make(chan error)
		go func() { waited <- l.WaitWritten(ctx, end+1) }()
		l.fail(ErrFormat)
		require.ErrorIs(t, <-waited, ErrFormat)
		require.ErrorIs(t, l.Close(), ErrFormat)
	}
}
