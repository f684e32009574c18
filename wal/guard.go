package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS stands between Pebble and the file system, because Pebble does not survive an error of its commit log: a write
// that fails makes the next commit panic while it holds the commit mutex, and one that fails while the commit log is
// rotated unlocks a mutex twice, which no recover catches. A2 asks for the opposite: the log is marked as failed, and the
// process lives on to say so.
//
// So the first error of a commit log file, or of the directory that holds them, is told to fail and kept from Pebble.
// From then on the guard is dead: writes to the commit log do nothing and report success. That is safe because
//
//   - fail runs before Pebble hears of the success, and nothing is announced as durable after fail;
//   - the commit log on disk stays a prefix of what was appended, and tables are written in the order of the log, so that
//     whatever a later open finds is again a prefix.
//
// Everything else (tables, MANIFEST) is reported truthfully: Pebble tries a table again, and calls Fatalf for the MANIFEST.
type guardFS struct {
	vfs.FS
	logDir string // directory of the commit log
	fail   func(error)

	dead atomic.Bool // set by fail
	// retries counts background errors since the last flush that went well.
	retries atomic.Int32
	// closing is closed when the log closes: nothing may wait any longer.
	closing chan struct{}
}

// How long the creation of a table waits after background errors, doubling from the first to the second. Pebble tries
// again at once, for ever: without a pause a directory that cannot be written costs a whole processor and fills the logs.
const (
	minRetryPause = 50 * time.Millisecond
	maxRetryPause = 5 * time.Second
)

var errLogGone = errors.New("wal: log has failed, tables are no longer written")

func isCommitLog(name string) bool { return strings.HasSuffix(name, ".log") }

// kill marks the log as failed by err.
func (g *guardFS) kill(op, name string, err error) {
	g.fail(fmt.Errorf("wal: %s %s: %w", op, name, err))
}

func (g *guardFS) Unwrap() vfs.FS { return g.FS }

func (g *guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isCommitLog(name) {
		if err := errors.Join(g.pace(name), g.order(name)); err != nil {
			return nil, err
		}
		return g.FS.Create(name, c)
	}
	if g.dead.Load() {
		return sinkFile{}, nil
	}
	return g.guard("create", name)(g.FS.Create(name, c))
}

func (g *guardFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isCommitLog(name) {
		return g.FS.ReuseForWrite(old, name, c)
	}
	if g.dead.Load() {
		return sinkFile{}, nil
	}
	return g.guard("reuse", name)(g.FS.ReuseForWrite(old, name, c))
}

func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil || name != g.logDir {
		return f, err
	}
	return &guardFile{f, g, name}, nil
}

func (g *guardFS) guard(op, name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			g.kill(op, name, err)
			return sinkFile{}, nil
		}
		return &guardFile{f, g, name}, nil
	}
}

// pace delays the creation of a table after errors. Once the log has failed it keeps Pebble's flush waiting until the log
// closes: what it would write is never acknowledged, and after a failed MANIFEST it would try for ever.
func (g *guardFS) pace(name string) error {
	if !strings.HasSuffix(name, ".sst") {
		return nil
	}
	if g.dead.Load() {
		<-g.closing
		return errLogGone
	}
	n := g.retries.Load()
	if n == 0 {
		return nil
	}
	t := time.NewTimer(min(minRetryPause<<min(n-1, 10), maxRetryPause))
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.closing:
	}
	return nil
}

// order syncs the directory before a marker is made in it. A marker names the current MANIFEST; Pebble makes both and then
// syncs the directory once, so that a power cut may keep the marker and lose the MANIFEST, and the log cannot be opened.
func (g *guardFS) order(name string) error {
	if !strings.HasPrefix(g.FS.PathBase(name), "marker.") {
		return nil
	}
	d, err := g.FS.OpenDir(g.FS.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// guardFile is a file of the commit log, or its directory.
type guardFile struct {
	vfs.File
	g    *guardFS
	name string
}

func (f *guardFile) Write(p []byte) (int, error) {
	if f.g.dead.Load() {
		return len(p), nil
	}
	n, err := f.File.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		f.g.kill("write", f.name, err)
	}
	return len(p), nil
}

func (f *guardFile) do(op string, fn func() error) error {
	if f.g.dead.Load() {
		return nil
	}
	if err := fn(); err != nil {
		f.g.kill(op, f.name, err)
	}
	return nil
}

func (f *guardFile) Sync() error     { return f.do("sync", f.File.Sync) }
func (f *guardFile) SyncData() error { return f.do("sync", f.File.SyncData) }

func (f *guardFile) SyncTo(length int64) (full bool, err error) {
	return full, f.do("sync", func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
}

func (f *guardFile) Preallocate(offset, length int64) error {
	return f.do("preallocate", func() error { return f.File.Preallocate(offset, length) })
}

func (f *guardFile) Stat() (vfs.FileInfo, error) {
	if f.g.dead.Load() {
		return sinkInfo{}, nil
	}
	i, err := f.File.Stat()
	if err != nil {
		f.g.kill("stat", f.name, err)
		return sinkInfo{}, nil
	}
	return i, nil
}

// Close closes the file even when the guard is dead: its descriptor must go.
func (f *guardFile) Close() error {
	if err := f.File.Close(); err != nil && !f.g.dead.Load() {
		f.g.kill("close", f.name, err)
	}
	return nil
}

// sinkFile takes the place of a commit log file that could not be made.
type sinkFile struct{}

func (sinkFile) Close() error                           { return nil }
func (sinkFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (sinkFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (sinkFile) Write(p []byte) (int, error)            { return len(p), nil }
func (sinkFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (sinkFile) Preallocate(int64, int64) error         { return nil }
func (sinkFile) Stat() (vfs.FileInfo, error)            { return sinkInfo{}, nil }
func (sinkFile) Sync() error                            { return nil }
func (sinkFile) SyncTo(int64) (bool, error)             { return false, nil }
func (sinkFile) SyncData() error                        { return nil }
func (sinkFile) Prefetch(int64, int64) error            { return nil }
func (sinkFile) Fd() uintptr                            { return vfs.InvalidFd }

// sinkInfo describes an empty file.
type sinkInfo struct{}

func (sinkInfo) Name() string           { return "" }
func (sinkInfo) Size() int64            { return 0 }
func (sinkInfo) Mode() os.FileMode      { return 0 }
func (sinkInfo) ModTime() time.Time     { return time.Time{} }
func (sinkInfo) IsDir() bool            { return false }
func (sinkInfo) Sys() any               { return nil }
func (sinkInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
