package engine

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskGuard keeps a full disk from becoming a failed log. A ballast file holds room back; when a write meets a full
// disk, the ballast is deleted and the write is tried once more, so that what has been acknowledged or is under way can
// be finished. From then on writes are refused in Redis's words, reads go on, and when there is room again the ballast
// is written anew and writes are let through: it heals by itself.
type diskGuard struct {
	e      *Engine
	fs     vfs.FS
	size   int64       // of the ballast in bytes; negative: no guard
	broken atomic.Bool // refused for another reason, for good
	ticks  int         // of the janitor

	// mu also keeps a write that meets a full disk waiting while the ballast is being written: a file that is still open
	// gives no room back when it is deleted.
	mu   sync.Mutex
	full atomic.Bool // a write has met a full disk, or room is short; changed under mu
}

const ballastName = "BALLAST"

// ballastShare bounds the ballast on a small disk to this fraction of it.
const ballastShare = 8

// diskFull is Redis's reply when its AOF cannot be written. Its address tells the refusal of a full disk, which heals,
// from those that do not: neither may take the place of the other.
var diskFull = "MISCONF Errors writing to the AOF file: No space left on device"

func (d *diskGuard) init(e *Engine) {
	d.e = e
	d.size = e.opts.BallastBytes
	d.fs = vfs.OnDiskFull(hintFS{e.opts.FS}, d.onFull)
}

// refuse makes writes fail, unless they already do for a reason that is there to stay. REQUIRES: mu.
func (d *diskGuard) refuse() {
	d.full.Store(true)
	d.e.refuse.CompareAndSwap(nil, &diskFull)
}

// onFull is called by whoever meets a full disk, before its write is tried again.
func (d *diskGuard) onFull() {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.full.Load()
	d.refuse()
	// The ballast may be there still when room was found short before any write met the end of it.
	switch err := d.e.opts.FS.Remove(d.e.path(ballastName)); {
	case err == nil:
		d.e.logger.Error("disk is full, ballast file deleted, writes are refused until there is room", "freed-bytes", d.size)
	case !errors.Is(err, fs.ErrNotExist):
		d.e.logger.Error("disk is full and the ballast file cannot be deleted, writes are refused until there is room", "error", err)
	case !was:
		d.e.logger.Error("disk is full, writes are refused until there is room")
	}
}

// start writes the ballast if there is room.
func (d *diskGuard) start() {
	if d.size < 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if u, err := d.e.opts.FS.GetDiskUsage(d.e.opts.Dir); err == nil {
		d.size = min(d.size, int64(u.TotalBytes/ballastShare))
	}
	if !d.full.Load() {
		d.refill()
	}
}

func (d *diskGuard) avail() (uint64, bool) {
	u, err := d.e.opts.FS.GetDiskUsage(d.e.opts.Dir)
	if err != nil {
		return 0, false // not every file system can tell (the one in memory cannot)
	}
	return u.AvailBytes, true
}

// refill writes the ballast if that leaves as much room again, and tells whether it is there. REQUIRES: mu.
func (d *diskGuard) refill() bool {
	name := d.e.path(ballastName)
	if st, err := d.e.opts.FS.Stat(name); err == nil && st.Size() == d.size {
		return true
	}
	if room, ok := d.avail(); !ok || room < uint64(2*d.size) {
		return false
	}
	f, err := d.e.opts.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		d.e.logger.Warn("writing the ballast file failed", "error", err)
		return false
	}
	block := make([]byte, 1<<20)
	for n := int64(0); n < d.size && err == nil; n += int64(len(block)) {
		_, err = f.Write(block[:min(int64(len(block)), d.size-n)])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, d.e.opts.FS.Remove(name))
		d.e.logger.Warn("writing the ballast file failed", "error", err)
		return false
	}
	return true
}

// diskLookTicks is how many ticks of the janitor pass between two looks at the disk.
const diskLookTicks = 5

// look refuses writes before the disk is full, and lets them through when there is room again: for the ballast, and as
// much again beside it.
func (d *diskGuard) look() {
	if d.ticks++; d.ticks%diskLookTicks != 0 || d.size < 0 {
		return
	}
	room, ok := d.avail()
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	low := uint64(d.size) / 2
	switch {
	case !d.full.Load() && room < low:
		d.refuse()
		d.e.logger.Error("disk is nearly full, writes are refused until there is room", "available-bytes", room)
	case d.full.Load() && room >= 4*low && d.e.log.Err() == nil && !d.broken.Load():
		if !d.refill() {
			return
		}
		d.full.Store(false)
		d.e.refuse.CompareAndSwap(&diskFull, nil)
		d.e.logger.Info("disk has room again, writes are accepted", "available-bytes", room)
		d.e.askCheckpoint()
	}
}

// hintFS lets a file be written on although there is no room to preallocate it. Preallocation is a hint, and Pebble asks
// for more than a memtable's worth at once: a disk that cannot give that may have room for a day of writes.
type hintFS struct{ vfs.FS }

// markerPrefix begins the names of Pebble's marker files (vfs/atomicfs).
const markerPrefix = "marker."

func (h hintFS) Unwrap() vfs.FS { return h.FS }

// Create makes a directory durable before a marker appears in it. Pebble's marker names a file, its MANIFEST, that has been
// created just before; both names would be made durable by one sync behind them, and a power cut before that may keep the
// marker and lose the file: a store that cannot be opened.
func (h hintFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(h.PathBase(name), markerPrefix) {
		if err := syncDir(h.FS, h.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return hint(h.FS.Create(name, c))
}

func (h hintFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return hint(h.FS.ReuseForWrite(old, name, c))
}

func hint(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return hintFile{f}, nil
}

type hintFile struct{ vfs.File }

func (f hintFile) Preallocate(offset, length int64) error {
	err := f.File.Preallocate(offset, length)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	return err
}
