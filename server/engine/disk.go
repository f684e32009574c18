package engine

import (
	"errors"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskGuard keeps a full disk from becoming a failed log. A ballast file holds room back; when a write meets a full
// disk, the ballast is deleted and the write is tried once more, so that what has been acknowledged or is under way can
// be finished. From then on writes are refused in Redis's words, reads go on, and when there is room again the ballast
// is written anew and writes are let through: it heals by itself.
type diskGuard struct {
	e       *Engine
	fs      vfs.FS
	full    atomic.Bool // a write has met a full disk, or room is short
	broken  atomic.Bool // refused for another reason, for good
	ballast bool        // the file is there; janitor only after start
	ticks   int
}

const ballastName = "BALLAST"

// diskFullText is Redis's reply when its AOF cannot be written.
const diskFullText = "MISCONF Errors writing to the AOF file: No space left on device"

func (d *diskGuard) init(e *Engine) {
	d.e = e
	d.fs = vfs.OnDiskFull(e.opts.FS, d.onFull)
}

// onFull is called by whoever meets a full disk, before its write is tried again.
func (d *diskGuard) onFull() {
	if d.full.Swap(true) {
		return
	}
	msg := diskFullText
	d.e.refuseWrites(&msg)
	if err := d.e.opts.FS.Remove(d.e.path(ballastName)); err == nil {
		d.e.logger.Error("disk is full, writes are refused until there is room", "freed-bytes", d.e.opts.BallastBytes)
	} else {
		d.e.logger.Error("disk is full, writes are refused until there is room")
	}
}

// start writes the ballast if there is room.
func (d *diskGuard) start() {
	if d.e.opts.BallastBytes < 0 {
		return
	}
	if st, err := d.e.opts.FS.Stat(d.e.path(ballastName)); err == nil && st.Size() == d.e.opts.BallastBytes {
		d.ballast = true
		return
	}
	d.refill()
}

func (d *diskGuard) avail() (uint64, bool) {
	u, err := d.e.opts.FS.GetDiskUsage(d.e.opts.Dir)
	if err != nil {
		return 0, false // not every file system can tell (the one in memory cannot)
	}
	return u.AvailBytes, true
}

// refill writes the ballast if that leaves as much room again.
func (d *diskGuard) refill() bool {
	size := d.e.opts.BallastBytes
	if size < 0 {
		return true
	}
	if room, ok := d.avail(); !ok || room < uint64(2*size) {
		return !ok
	}
	name := d.e.path(ballastName)
	f, err := d.e.opts.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false
	}
	block := make([]byte, 1<<20)
	for n := int64(0); n < size && err == nil; n += int64(len(block)) {
		_, err = f.Write(block[:min(int64(len(block)), size-n)])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, d.e.opts.FS.Remove(name))
		d.e.logger.Warn("writing the ballast file failed", "error", err)
		return false
	}
	d.ballast = true
	return true
}

// diskLookTicks is how many ticks of the janitor pass between two looks at the disk.
const diskLookTicks = 5

// look refuses writes before the disk is full, and lets them through when there is room again.
func (d *diskGuard) look() {
	if d.ticks++; d.ticks%diskLookTicks != 0 || d.e.opts.BallastBytes < 0 {
		return
	}
	room, ok := d.avail()
	if !ok {
		return
	}
	low := uint64(d.e.opts.BallastBytes) / 2
	switch full := d.full.Load(); {
	case !full && room < low:
		d.full.Store(true)
		msg := diskFullText
		d.e.refuseWrites(&msg)
		d.e.logger.Error("disk is nearly full, writes are refused until there is room", "available-bytes", room)
	case full && room > 4*low && d.e.log.Err() == nil && !d.broken.Load():
		if _, err := d.e.opts.FS.Stat(d.e.path(ballastName)); err != nil && !d.refill() {
			return
		}
		d.full.Store(false)
		d.e.refuseWrites(nil)
		d.e.logger.Info("disk has room again, writes are accepted", "available-bytes", room)
		d.e.askCheckpoint()
	}
}
