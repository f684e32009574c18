package wal

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// One executor, readers at the tail and from the beginning, somebody who trims, changes the policy and asks for syncs: run
// it with -race. Every reader sees the same bytes (R1), none before they are durable (W5).
func TestConcurrentUse(t *testing.T) {
	ctx := context.Background()
	var durable, calls Offset
	var l *Log
	o := Options{FS: vfs.NewMem(), Dir: "wal", Policy: EverySec, MemTableBytes: 256 << 10, TailBytes: 16 << 10,
		OnDurable: func(o Offset) { // never twice at once, and growing: or the race detector and this test say so
			if o <= durable {
				t.Errorf("durable went from %d to %d", durable, o)
			}
			durable = o
			calls++
		}}
	l, err := Open(o)
	require.NoError(t, err)
	require.NoError(t, l.BeginID(idA))
	var all []byte
	var recs [][]byte
	for i := range 3000 {
		rec := set(i, i*37%900)
		recs = append(recs, rec)
		all = append(all, rec...)
	}
	var wg sync.WaitGroup
	for range 4 {
		r, err := l.NewReader(0)
		require.NoError(t, err)
		wg.Go(func() {
			defer r.Close()
			for int(r.Offset()) < len(all) {
				at, data, err := r.Next(ctx)
				if errors.Is(err, ErrTrimmed) {
					return
				}
				if err != nil || !bytes.Equal(data, all[at:int(at)+len(data)]) {
					t.Errorf("reader at %d: %v", at, err)
					return
				}
				if r.Offset() > l.Durable() {
					t.Errorf("W5: read to %d, durable to %d", r.Offset(), l.Durable())
				}
			}
		})
	}
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			l.SetPolicy(Policy(i % 3))
			l.SetContinuousSync(i%2 == 0)
			if err := l.Sync(ctx); err != nil {
				t.Error(err)
			}
			if err := l.Trim(l.Durable() - 1<<20); err != nil {
				t.Error(err)
			}
			_ = l.Metrics()
		}
	})
	for i, rec := range recs {
		l.Append(rec, 0, 0)
		if i%3 == 0 {
			l.Kick()
		}
		if i%100 == 0 {
			require.NoError(t, l.WaitDurable(ctx, 0))
		}
	}
	require.NoError(t, l.Sync(ctx))
	close(stop)
	wg.Wait()
	require.NoError(t, l.Close())
	require.Equal(t, Offset(len(all)), durable)
	require.Positive(t, calls)
}

// Close while others read and wait: they get ErrClosed, and nothing panics.
func TestCloseWhileUsed(t *testing.T) {
	ctx := context.Background()
	l := open(t, vfs.NewMem(), Options{TailBytes: 1 << 10})
	for i := range 500 {
		l.Append(set(i, 500), 0, 0)
	}
	require.NoError(t, l.Sync(ctx))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				r, err := l.NewReader(0)
				for err == nil {
					_, _, err = r.Next(ctx)
				}
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				_ = r.Close()
				return
			}
		})
		wg.Go(func() {
			if err := l.WaitDurable(ctx, 1<<40); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
	require.NoError(t, l.Close())
	wg.Wait()
	require.ErrorIs(t, l.Trim(100), ErrClosed)
	require.ErrorIs(t, l.Err(), ErrClosed)
}

// Without a kick many bytes are written all the same; a kick on an empty log is not mistaken for that of what comes next.
func TestKicks(t *testing.T) {
	ctx := context.Background()
	for _, policy := range []Policy{Always, EverySec, No} {
		l := open(t, vfs.NewMem(), Options{Policy: policy})
		for i := range 200 {
			l.Kick()
			end := l.Append(set(i, 10), 0, 0)
			l.Kick()
			if policy == Always {
				require.NoError(t, l.WaitDurable(ctx, end))
			}
		}
		end := l.Append(set(1, 3*lazyBytes), 0, 0) // no kick
		if policy == Always {
			require.NoError(t, l.Sync(ctx))
		} else {
			l.SetPolicy(Always) // and what was only written is synced, without a kick or a Sync
			require.NoError(t, l.WaitDurable(ctx, end))
		}
		require.NoError(t, l.Close())
	}
}
