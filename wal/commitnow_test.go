package wal

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// handOver gives what was appended to the committer, or every other time commits it here, as an event loop may.
func handOver(l *Log, i int) {
	if i%2 == 0 || !l.CommitNow() {
		l.Kick()
	}
}

// What CommitNow has taken is durable and told when it returns, and lies in the log in order with what the committer writes.
func TestCommitNow(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var told atomic.Int64
	l := open(t, mem, Options{OnDurable: func(o Offset) { told.Store(int64(o)) }})
	var want []byte
	for i := range 200 {
		rec := set(i, i)
		want = append(want, rec...)
		end := l.Append(rec, 0, 0)
		if i%3 == 0 {
			l.Kick()
			require.NoError(t, l.WaitDurable(context.Background(), end))
			continue
		}
		if !l.CommitNow() {
			// The committer has not let go of writing yet: it takes this, too.
			l.Kick()
			require.NoError(t, l.WaitDurable(context.Background(), end))
		}
		require.Equal(t, end, l.Durable())
		require.Equal(t, int64(end), told.Load())
	}
	again := open(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{}) // W4
	require.NoError(t, sameBytes(again, want))
	require.NoError(t, again.Close())
	require.NoError(t, l.Close())
	require.False(t, l.CommitNow(), "closed")
}

func TestCommitNowRefuses(t *testing.T) {
	for _, policy := range []Policy{EverySec, No} {
		l := open(t, vfs.NewMem(), Options{Policy: policy})
		l.SetContinuousSync(true) // for replicas: no client waits for it
		l.Append(set(1, 10), 0, 0)
		require.False(t, l.CommitNow(), "policy %v", policy)
		require.NoError(t, l.Close())
	}
	l := open(t, vfs.NewMem(), Options{})
	require.False(t, l.CommitNow(), "nothing to do")
	end := l.Append(set(1, nowBytes), 0, 0)
	require.False(t, l.CommitNow(), "more than a caller should wait for")
	require.NoError(t, l.Sync(context.Background()))
	require.Equal(t, end, l.Durable())

	l.Append(set(2, 10), 0, 0)
	l.writing.Lock()
	require.False(t, l.CommitNow(), "another writes")
	l.now.sync = 2 * nowSync
	l.writing.Unlock()
	for range nowProbe - 1 {
		require.False(t, l.CommitNow(), "a slow disk")
	}
	require.True(t, l.CommitNow(), "tried again after a while")
	require.NoError(t, l.Close())
}

// A hiccup of the disk makes no slow disk, a slow disk does.
func TestCommitNowJudgesTheDisk(t *testing.T) {
	var s nowState
	for range 10 {
		s.took(nowSync / 4)
	}
	s.took(time.Second)
	require.False(t, s.slow())
	for range 10 {
		s.took(2 * nowSync)
	}
	require.True(t, s.slow())
}

// A sync that fails within CommitNow is the log's end (A2), as one of the committer's is.
func TestCommitNowFails(t *testing.T) {
	var armed atomic.Bool
	fs := newFaultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if armed.Load() && commitLogOps(op) && op.Kind == errorfs.OpFileSyncData {
			return errorfs.ErrInjected
		}
		return nil
	})
	l, err := Open(Options{FS: fs, Dir: "wal"})
	require.NoError(t, err)
	l.Append(set(1, 10), 0, 0)
	require.True(t, l.CommitNow())
	durable := l.Durable()
	l.writing.Lock()
	l.now.sync = 0 // however long that took here, the disk is not slow
	l.writing.Unlock()
	armed.Store(true)
	l.Append(set(2, 10), 0, 0)
	require.True(t, l.CommitNow())
	require.ErrorIs(t, l.Err(), errorfs.ErrInjected)
	require.Equal(t, durable, l.Durable())
	l.Append(set(3, 10), 0, 0)
	require.False(t, l.CommitNow(), "failed for good")
	require.Equal(t, durable, l.Durable())
	require.Error(t, l.Close())
}
