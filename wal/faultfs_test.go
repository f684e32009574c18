package wal

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faultFS is errorfs for a log. errorfs does not see what happens to a file that ReuseForWrite returns, and Pebble reuses
// the files of its commit log: nearly all writes of the log would go unseen.
type faultFS struct{ vfs.FS }

func newFaultFS(fs vfs.FS, inject errorfs.InjectorFunc) vfs.FS {
	return faultFS{errorfs.Wrap(fs, inject)}
}

func (f faultFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	bare, err := f.FS.ReuseForWrite(old, name, c)
	if err != nil {
		return nil, err
	}
	seen, err := f.FS.OpenReadWrite(name, c)
	if err = errors.Join(err, bare.Close()); err != nil {
		return nil, err
	}
	return seen, nil
}
