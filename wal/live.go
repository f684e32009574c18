package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// How often and after which pause the opening of a log in use is tried again. A flush every few hundred milliseconds, as
// under the heaviest load, leaves room for an opening between two of them.
const (
	liveTries = 20
	livePause = 50 * time.Millisecond
)

// OpenLive opens a log read-only that another process may be writing. It sees the log as it stands at the moment, never
// more of it: open it again to see more. What it sees ends with a whole chunk, which need not be synced yet: a power cut
// may take back the newest bytes. Reading can meet a table that the writer has trimmed meanwhile; open it again, too.
//
// The writer's lock is not taken, nor is anything written. While the log is being opened the writer may replace files;
// an opening that saw the list of files change is given up and tried again, because it may have missed what moved.
func OpenLive(ctx context.Context, o Options) (*Log, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	bare := o.FS
	o.FS, o.ReadOnly = unlockedFS{bare}, true
	var last error
	for try := range liveTries {
		if try > 0 {
			t := time.NewTimer(livePause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return nil, errors.Join(ctx.Err(), last)
			}
		}
		// A file is removed only after the MANIFEST has said so: the same MANIFEST before and after, nothing was missed.
		before, err := manifestState(bare, o.Dir)
		if err != nil {
			last = err
			continue
		}
		l, err := Open(o)
		if err != nil {
			if errors.Is(err, ErrFormat) {
				return nil, err
			}
			last = err
			continue
		}
		after, err := manifestState(bare, o.Dir)
		if err == nil && before == after {
			return l, nil
		}
		last = errors.Join(err, errLiveMoved, l.Close())
	}
	return nil, fmt.Errorf("wal: opening a log in use, %d times: %w", liveTries, last)
}

var errLiveMoved = errors.New("its files changed meanwhile")

// manifestState tells the MANIFESTs, their sizes and which of them is the current one.
func manifestState(fs vfs.FS, dir string) (string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "marker.manifest."):
			fmt.Fprintln(&b, n)
		case strings.HasPrefix(n, "MANIFEST-"):
			st, err := fs.Stat(fs.PathJoin(dir, n))
			if err != nil {
				return "", err
			}
			fmt.Fprintln(&b, n, st.Size())
		}
	}
	return b.String(), nil
}

// unlockedFS takes no locks: whoever reads a live log must not keep its writer out.
type unlockedFS struct{ vfs.FS }

func (u unlockedFS) Unwrap() vfs.FS { return u.FS }

func (unlockedFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

type noLock struct{}

func (noLock) Close() error { return nil }
